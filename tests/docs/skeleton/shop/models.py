"""The model of the pages."""

from django.db import models


class Order(models.Model):
    """What a visitor buys."""

    email = models.EmailField()
    paid = models.BooleanField(default=False)
    shipped = models.BooleanField(default=False)
    express = models.BooleanField(default=False)
    archived = models.BooleanField(default=False)
