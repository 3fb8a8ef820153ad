"""A worker of RQ that gives itself one job, which queues an item, works it off and ends."""

from __future__ import annotations

import os
import sys

import django


def main() -> None:
    """Enqueue and work, in a process with Django set up, as django-rq does."""
    django.setup()
    from redis import Redis
    from rq import Queue, SimpleWorker, Worker

    connection = Redis(unix_socket_path=os.environ["QBWI_SITE_REDIS"])
    queue = Queue(connection=connection)
    queue.enqueue("tests.processes.site.items.queue", sys.argv[1])
    kind = SimpleWorker if sys.argv[2] == "simple" else Worker
    kind([queue], connection=connection).work(burst=True)


if __name__ == "__main__":
    main()
