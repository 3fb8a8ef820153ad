"""The backend of tasks, under `django.tasks` and under its backport."""
