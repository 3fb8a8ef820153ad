"""Tests of `django_qbwi.core`; none of them needs Django."""
