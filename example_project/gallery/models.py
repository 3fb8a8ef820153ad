"""What the gallery keeps: an item in the background gets a primary key of one of these, never an object."""

from django.db import models


class Upload(models.Model):
    """A picture that a visitor uploaded, or a generated sample."""

    picture = models.ImageField(upload_to="uploads")
    uploaded_at = models.DateTimeField(auto_now_add=True)


class Thumbnail(models.Model):
    """A small copy of an uploaded picture."""

    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="thumbnails")
    picture = models.ImageField(upload_to="thumbnails", width_field="width", height_field="height")
    width = models.PositiveSmallIntegerField()
    height = models.PositiveSmallIntegerField()


class Postcard(models.Model):
    """An e-mail with a drawn picture; sent as soon as `sent_at` is set."""

    address = models.EmailField()
    greeting = models.CharField(max_length=60)
    sent_at = models.DateTimeField(null=True)


class Album(models.Model):
    """A PDF of the newest pictures; finished as soon as `pages` is set."""

    pdf = models.FileField(upload_to="albums")
    ordered_at = models.DateTimeField(auto_now_add=True)
    pages = models.PositiveSmallIntegerField(null=True)


class Count(models.Model):
    """A count to `goal`; `reached` is set when the counting has ended, by `count_on` at each step."""

    goal = models.PositiveSmallIntegerField()
    reached = models.PositiveSmallIntegerField(null=True)
    ending = models.CharField(max_length=40, blank=True)
    ordered_at = models.DateTimeField(auto_now_add=True)
