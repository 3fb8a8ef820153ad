"""A suite for pytest-django."""

import pytest

from .models import Album


def thumbnails(response):
    return Album.objects.get(pk=int(response.content)).thumbnails


@pytest.mark.django_db
def test_default(client):
    assert client.post("/upload").status_code == 200
    assert client.post("/upload_async").status_code == 200


@pytest.mark.django_db
def test_immediate_setting(client, settings):
    settings.QBWI = {"IMMEDIATE": True}
    assert thumbnails(client.post("/upload")) == 2
    assert thumbnails(client.post("/upload_async")) == 2


@pytest.mark.django_db
def test_immediate_fixture(client, immediate_work_items):
    assert thumbnails(client.post("/upload")) == 2
    assert thumbnails(client.post("/upload_async")) == 2


@pytest.mark.django_db
def test_captured_fixture(client, captured_work_items):
    response = client.post("/upload")
    assert thumbnails(response) == 0
    assert len(captured_work_items) == 2
    captured_work_items.run_all()
    assert thumbnails(response) == 2


@pytest.mark.django_db(transaction=True)
def test_transaction(client, drain_work_items):
    response = client.post("/commit")
    assert drain_work_items(30)
    assert thumbnails(response) == 1
