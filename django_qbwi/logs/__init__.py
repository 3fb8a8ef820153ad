"""Log records and their items: which item has written a record, and which records an item has written.

A site names `WorkItemFilter` in settings.LOGGING, which is read before there are apps: nothing here needs one.
"""

from django_qbwi.logs.filtering import WorkItemFilter

__all__ = ["WorkItemFilter"]
