"""Tests of `django_qbwi.lifecycle` that need no process of their own."""
