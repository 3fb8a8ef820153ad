"""The app of the site: a table, a command, and handlers of its own where a test asks for them."""

from __future__ import annotations

import atexit
import importlib
import os
import time

from django.apps import AppConfig
from django.utils.autoreload import file_changed

from tests.processes.site.report import DIRECTORY, report


class SiteConfig(AppConfig):
    """Imports the file that a test touches to have the server reload."""

    name = "tests.processes.site"
    label = "site"

    def ready(self) -> None:
        """Report the start, reloads and the exit, and set a handler where asked to."""
        if (DIRECTORY / "qbwi_touched.py").exists():
            importlib.import_module("qbwi_touched")
        report("site loaded")
        atexit.register(report, "atexit")
        file_changed.connect(_report_change, dispatch_uid="tests.processes.site")
        if os.environ.get("QBWI_SITE_HANDLER") == "ready":
            from tests.processes.site.handlers import install  # only where a test asks for it

            install()
        if os.environ.get("QBWI_SITE_READY_ITEM"):
            from tests.processes.site.items import queue  # its models are there only now

            queue("quick_item")
        if os.environ.get("QBWI_SITE_UWSGI_HOOK") == "after":
            from tests.processes.site.handlers import set_uwsgi_hook  # only where a test asks for it

            set_uwsgi_hook()
        if os.environ.get("QBWI_SITE_STUCK_RECEIVER"):
            from django_qbwi.signals import work_item_finished  # the site also runs without django_qbwi

            work_item_finished.connect(_block, dispatch_uid="tests.processes.site")


def _block(**kwargs: object) -> None:
    report("receiver blocks")
    time.sleep(600)


def _report_change(file_path: object, **kwargs: object) -> None:
    report("file changed")
