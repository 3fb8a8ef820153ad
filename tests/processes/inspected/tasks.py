"""A task, of the framework that is there."""

try:
    from django.tasks import task
    from django.tasks.exceptions import TaskResultDoesNotExist as DoesNotExist
except ImportError:
    from django_tasks import task
    from django_tasks.exceptions import TaskResultDoesNotExist as DoesNotExist

__all__ = ["DoesNotExist", "add"]


@task
def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second
