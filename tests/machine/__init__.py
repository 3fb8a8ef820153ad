"""Tests of `django_qbwi.machine`; none of them needs Django."""
