"""Tests of `django_qbwi.console`."""
