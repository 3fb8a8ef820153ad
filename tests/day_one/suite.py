"""A suite for `manage.py test`."""

from django.test import TestCase, TransactionTestCase, override_settings

from django_qbwi.testing import captured_work_items, drain, immediate_work_items

from .models import Album


class DefaultTests(TestCase):
    """Tests that know nothing of work items."""

    def test_upload(self):
        response = self.client.post("/upload")
        assert response.status_code == 200
        assert Album.objects.filter(pk=int(response.content)).exists()

    def test_upload_async(self):
        assert self.client.post("/upload_async").status_code == 200

    async def test_async_client(self):
        response = await self.async_client.post("/upload_async")
        assert response.status_code == 200


@override_settings(QBWI={"IMMEDIATE": True})
class ImmediateSettingTests(TestCase):
    """Tests with the setting."""

    def upload(self, address):
        return Album.objects.get(pk=int(self.client.post(address).content)).thumbnails

    def test_upload(self):
        assert self.upload("/upload") == 2

    def test_upload_async(self):
        assert self.upload("/upload_async") == 2

    async def test_async_client(self):
        response = await self.async_client.post("/upload_async")
        album = await Album.objects.aget(pk=int(response.content))
        assert album.thumbnails == 2

    def test_on_commit(self):
        with self.captureOnCommitCallbacks(execute=True):
            response = self.client.post("/commit")
        assert Album.objects.get(pk=int(response.content)).thumbnails == 1


class ImmediateBlockTests(TestCase):
    """Tests with the context manager."""

    def test_upload(self):
        with immediate_work_items():
            response = self.client.post("/upload")
        assert Album.objects.get(pk=int(response.content)).thumbnails == 2


class CapturedTests(TestCase):
    """Tests that look at what was queued."""

    def test_upload(self):
        with captured_work_items() as captured:
            pk = int(self.client.post("/upload").content)
            assert [item.args for item in captured] == [(pk,), (pk,)]
            assert Album.objects.get(pk=pk).thumbnails == 0
            captured.run_all()
        assert Album.objects.get(pk=pk).thumbnails == 2


class FileDatabaseTests(TransactionTestCase):
    """Tests whose data is committed, on a database in a file."""

    def test_upload(self):
        pk = int(self.client.post("/commit").content)
        assert drain(30)
        assert Album.objects.get(pk=pk).thumbnails == 1
