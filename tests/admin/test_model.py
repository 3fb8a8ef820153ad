"""The model without a table: permissions, and no harm to what looks at all models."""

import io

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection

from django_qbwi.models import WorkItem


@pytest.mark.django_db
def test_permissions() -> None:
    """`migrate` makes the two permissions, and none to add, change or delete."""
    found = Permission.objects.filter(content_type__app_label="django_qbwi").values_list("codename", flat=True)
    assert sorted(found) == ["cancel_workitem", "view_workitem"]


@pytest.mark.django_db
def test_no_table() -> None:
    """No table is made."""
    assert not [name for name in connection.introspection.table_names() if name.startswith("django_qbwi")]


def test_no_query() -> None:
    """Every query is empty, and never reaches the database (which this test may not use)."""
    assert list(WorkItem.objects.all()) == []
    assert list(WorkItem._base_manager.filter(name="x")) == []
    assert WorkItem.objects.count() == 0
    assert str(WorkItem(id="1", name="resize")) == "resize"


@pytest.mark.django_db
@pytest.mark.parametrize("options", [[], ["--all"]])
def test_dumpdata(options: list[str]) -> None:
    """`dumpdata` asks every model, also unmanaged ones; it finds nothing here."""
    out = io.StringIO()
    call_command("dumpdata", "django_qbwi", *options, stdout=out)
    assert out.getvalue().strip() == "[]"


@pytest.mark.django_db
def test_no_migrations() -> None:
    """`makemigrations --check` has nothing to do, and exits with 0."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
