"""Tests of `django_qbwi.contrib.schedules`."""
