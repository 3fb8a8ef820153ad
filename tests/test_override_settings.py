"""`override_settings(QBWI=...)` and pytest-django's `settings`: a scheduler of its own, drained at the end (F30)."""

import threading

import pytest
from django.test import SimpleTestCase, modify_settings, override_settings

from django_qbwi import hosting, queue_background_work_item

PATIENCE = 30


def threads_of_ours() -> list[str]:
    """The names of our threads that live."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("qbwi"))


def test_block_has_a_scheduler_of_its_own() -> None:
    """Inside of the block another scheduler works; after it the one of before does."""
    before = hosting.scheduler()
    with override_settings(QBWI={"MAX_WORKERS": 2}):
        inside = hosting.scheduler()
        assert inside is not before
    assert hosting.scheduler() is before


def test_block_waits_for_its_items() -> None:
    """Leaving the block waits for items that save their work when their token is cancelled."""
    saved = []

    def item(token) -> None:
        assert token.wait(PATIENCE)
        saved.append(token.reason)

    async def async_item(token) -> None:
        await token.cancelled()
        saved.append(token.reason)

    with override_settings(QBWI={}):
        handles = [queue_background_work_item(item), queue_background_work_item(async_item)]
    assert [handle.status for handle in handles] == ["succeeded", "succeeded"]
    assert saved == ["shutdown", "shutdown"]


def test_block_ends_at_its_limit() -> None:
    """An item that never ends holds the block for the time of SHUTDOWN_TIMEOUT, five seconds at most."""
    release = threading.Event()
    with override_settings(QBWI={"SHUTDOWN_TIMEOUT": 0.05}):
        stuck = queue_background_work_item(lambda token: release.wait(PATIENCE))
    assert stuck.status == "abandoned"
    release.set()


def test_block_leaves_no_thread() -> None:
    """After the block none of its threads is left."""
    before = threads_of_ours()
    with override_settings(QBWI={}):
        assert queue_background_work_item(lambda token: None, timeout=PATIENCE).wait(PATIENCE)
        during = set(threading.enumerate())
    for thread in during:
        if thread.name.startswith("qbwi") and thread.name not in before:
            thread.join(PATIENCE)
    assert threads_of_ours() == before


def test_block_without_items_starts_no_thread() -> None:
    """A block in which nothing is queued starts nothing."""
    before = threads_of_ours()
    with override_settings(QBWI={"MAX_WORKERS": 2}):
        assert hosting.scheduler().queued_count == 0
        assert threads_of_ours() == before


def test_counts_are_of_the_block() -> None:
    """A nested block neither sees nor counts the items of the outer one, whose items go on."""
    started, release = threading.Event(), threading.Event()
    with override_settings(QBWI={}):
        outer = queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE))
        assert started.wait(PATIENCE)
        with override_settings(QBWI={"MAX_WORKERS": 1}):
            assert hosting.live_items() == []
            assert queue_background_work_item(lambda token: None).wait(PATIENCE)
        assert [info.id for info in hosting.live_items()] == [outer.id]
        release.set()
        assert outer.wait(PATIENCE)


def test_threads_that_queue_at_once_share_one_scheduler() -> None:
    """Threads that are first to queue in a block, all at once, make one scheduler and not several."""
    barrier, owners = threading.Barrier(20), []

    def queue() -> None:
        barrier.wait(PATIENCE)
        handle = queue_background_work_item(lambda token: None)
        owners.append(handle._item.owner)

    for _ in range(5):
        with override_settings(QBWI={}):
            threads = [threading.Thread(target=queue) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert set(owners) == {hosting.scheduler()}
            owners.clear()


def test_pytest_djangos_settings_fixture(settings) -> None:
    """`settings.QBWI = ...` works like a block that ends with the test."""
    settings.QBWI = {"ITEM_TIMEOUT": 5}
    assert queue_background_work_item(lambda token: None).info.timeout == 5
    settings.QBWI = {"ITEM_TIMEOUT": 7}
    assert queue_background_work_item(lambda token: None).info.timeout == 7


@pytest.fixture
def left_behind(settings):
    """Set settings.QBWI for a test, and look at its item when the fixture of pytest-django has ended."""
    settings.QBWI = {}
    handles = []
    yield handles
    # The drain of our own plugin came first.
    assert [handle.status for handle in handles] == ["succeeded"]


def test_item_of_the_settings_fixture_is_waited_for(left_behind) -> None:
    """An item that a test leaves behind has ended when the fixtures of the test are torn down."""
    left_behind.append(queue_background_work_item(lambda token: None))


@override_settings(QBWI={"ITEM_TIMEOUT": 5})
class DecoratedTests(SimpleTestCase):
    """The decorator of a class holds for its tests."""

    def test_class(self) -> None:
        """The settings of the class hold."""
        handle = queue_background_work_item(lambda token: None)
        assert handle.wait(PATIENCE)
        assert handle.info.timeout == 5

    @override_settings(QBWI={"ITEM_TIMEOUT": 7})
    def test_method(self) -> None:
        """Those of the method stand before them."""
        handle = queue_background_work_item(lambda token: None)
        assert handle.wait(PATIENCE)
        assert handle.info.timeout == 7

    @modify_settings(INSTALLED_APPS={"append": "django.contrib.humanize"})
    def test_other_settings(self) -> None:
        """Other apps for a block change nothing."""
        assert queue_background_work_item(lambda token: None).wait(PATIENCE)
