"""Two admin sites: the default one, and a site's own."""

from django.contrib import admin
from django.urls import path

from django_qbwi.admin import WorkItemAdmin
from django_qbwi.models import WorkItem

operations_site = admin.AdminSite(name="operations")
operations_site.register(WorkItem, WorkItemAdmin)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("operations/", operations_site.urls),
]
