"""The one table of the site."""

from django.db import models


class Album(models.Model):
    """An album, whose thumbnails are made in the background."""

    thumbnails = models.IntegerField(default=0)

    class Meta:
        app_label = "day_one"
