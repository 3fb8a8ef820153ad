from django.urls import path

from example_project.gallery import views

app_name = "gallery"
urlpatterns = [
    path("", views.home, name="home"),
    path("work/", views.work, name="work"),
    path("work.json", views.work_as_json, name="work-json"),
    path("work/<str:item_id>/cancel/", views.cancel, name="cancel"),
    path("pictures/", views.upload_picture, name="upload"),
    path("pictures/sample/", views.add_sample, name="sample"),
    path("postcards/", views.order_postcard, name="postcard"),
    path("letters/", views.send_letter, name="letter"),
    path("albums/", views.order_album, name="order-album"),
    path("overviews/", views.order_overview, name="overview"),
    path("mirror/", views.copy_to_mirror, name="mirror"),
    path("albums/<str:signed_id>/", views.album, name="album"),
    path("backups/", views.start_backup, name="backup"),
    path("counts/", views.start_count, name="count"),
    path("counts/many/", views.start_many_counts, name="count-many"),
    path("counts/on/", views.start_count_on, name="count-on"),
    path("counts/to-the-end/", views.start_count_to_the_end, name="count-to-the-end"),
]
