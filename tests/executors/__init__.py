"""Tests of `django_qbwi.executors`; none of them needs Django."""
