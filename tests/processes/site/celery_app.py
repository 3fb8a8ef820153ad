"""A Celery worker of the site: as soon as it is ready it gives itself a few tasks, each of which queues an item."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from tests.processes.site.report import DIRECTORY, report

app = Celery("site", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        key: str(DIRECTORY / "broker") for key in ("data_folder_in", "data_folder_out", "control_folder")
    },
    broker_connection_retry_on_startup=False,
    worker_max_tasks_per_child=1,
    worker_concurrency=1,
    task_ignore_result=True,
)
(DIRECTORY / "broker").mkdir(exist_ok=True)


@app.task
def queue_item(name: str) -> None:
    """Queue an item, as a task of a project that shares its code with views."""
    from tests.processes.site.items import queue  # its models are there only when Django is set up

    queue(name)
    report("task ends")


@worker_ready.connect
def give_tasks(**kwargs: Any) -> None:
    """Send the tasks."""
    for name in os.environ["QBWI_SITE_TASKS"].split():
        queue_item.delay(name)
