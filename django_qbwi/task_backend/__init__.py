"""Tasks of `django.tasks`, and of its backport, as work items: the backend, and what it keeps of each task."""
