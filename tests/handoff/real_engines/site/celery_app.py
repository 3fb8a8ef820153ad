"""The Celery app of the site, as its web process and its worker import it."""

from __future__ import annotations

import json
import os

from celery import Celery

_REDIS = json.loads(os.environ["QBWI_SITE_ENGINE"])["redis"]

app = Celery("site", broker=f"redis+socket://{_REDIS}", backend=f"redis+socket://{_REDIS}")
app.conf.update(
    task_default_queue="default",
    result_extended=True,
    broker_connection_retry_on_startup=False,
    imports=["tests.handoff.real_engines.site.work"],
    worker_hijack_root_logger=False,
)
app.set_default()
