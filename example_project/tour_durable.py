"""A tour of the hand-off: `python -m example_project.tour_durable`.

Starts the example site under gunicorn and a worker of an engine beside it, queues counts, stops gunicorn in the middle
of them, and waits until the worker has finished what was left. It ends by itself.
The engine is django-tasks-db, or, with `--engine huey`, huey on a Redis server of its own (Debian: redis-server).
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from example_project.tour import PATIENCE, Tour, command, free_port, say

GOAL = 6  # one a second
COUNTS = 4  # two of them wait: there are two workers


class DurableTour(Tour):
    """The server, the worker beside it, and what moves from the one to the other."""

    settings = "example_project.settings_durable"
    worker = ("db_worker", "--backend=durable", "--no-reload", "--interval=0.2")

    def run(self, seconds: float | None) -> int:
        """Show everything, and return 0 if all counts have reached their goal."""
        self.migrate()
        before = [count.pk for count in self.counts()]
        say(f"Starting the worker (manage.py {self.worker[0]}) ...")
        # With DEBUG that of django-tasks-db would start itself again whenever a file changes.
        worker = self.start(command("example_project.manage", *self.worker))
        say(f"Starting gunicorn on port {self.port} ...")
        self.server = self.start(self.gunicorn())
        try:
            self.show(seconds)
            say("Stopping gunicorn (SIGTERM) in the middle of it; it has 8 seconds.")
            self.server.terminate()
            say(f"gunicorn has ended with exit code {self.server.wait(PATIENCE)}.")
            mine = [count.pk for count in self.counts() if count.pk not in before]
            self.tell(mine)
            done = self.wait_for(mine)
        finally:
            for process in (self.server, worker):
                process.terminate()
            codes = [process.wait(PATIENCE) for process in (self.server, worker)]
        say(f"The worker has ended with exit code {codes[1]}.")
        return 0 if done and codes == [0, 0] else 1

    def show(self, seconds: float | None) -> None:
        """Queue the counts, and let them begin."""
        if not self.wait_until_it_answers():
            raise SystemExit("gunicorn has not started.")
        say(f"Starting {COUNTS} counts to {GOAL}, of which two can run at a time.")
        for _ in range(COUNTS):
            self.visitor.post("counts/on/", goal=GOAL)
        self.pause(2.5 if seconds is None else seconds)

    def counts(self) -> list:
        """Return the rows of the counts."""
        from example_project.gallery.models import Count  # needs the settings

        return list(Count.objects.order_by("pk"))

    def tell(self, mine: list[int]) -> None:
        """Say how far each count is, and what the engine has got."""
        self.tell_counts(mine)
        moved = [result for result in self.results() if result.args_kwargs["args"][1][0] in mine]
        say(f"{len(moved)} of {len(mine)} counts have moved to the worker, each under its own id:")
        for result in moved:
            _, args, _, options = result.args_kwargs["args"]
            say(f"    {result.id.hex}: {options['name']}, goes on with count_on(token, {', '.join(map(str, args))})")

    def tell_counts(self, mine: list[int]) -> bool:
        """Say how far each count is; tell whether all are at their goal."""
        counts = [count for count in self.counts() if count.pk in mine]
        for count in counts:
            say(f"    count {count.pk} has reached {count.reached or 0} of {count.goal}")
        return all(count.reached == count.goal for count in counts)

    def results(self) -> list:
        """Return the rows of the engine."""
        from django_tasks_db.models import DBTaskResult  # needs the settings

        return list(DBTaskResult.objects.order_by("enqueued_at"))

    def wait_for(self, mine: list[int]) -> bool:
        """Wait until the worker has nothing left to do, and say what has become of the counts."""
        say("Waiting for the worker ...")
        until = time.monotonic() + PATIENCE
        while not self.has_ended(mine) and time.monotonic() < until:
            time.sleep(0.2)
        done = self.tell_counts(mine)
        say("The worker has finished all of them." if done else "Not all of them are finished.")
        return done

    def has_ended(self, mine: list[int]) -> bool:
        """Tell whether the worker has nothing left to do."""
        return not any(result.status in ("READY", "RUNNING") for result in self.results())


class HueyTour(DurableTour):
    """The same with huey, which keeps no list of what has moved: only the counts tell."""

    settings = "example_project.settings_huey"
    worker = ("run_huey",)

    def tell(self, mine: list[int]) -> None:
        """Say how far each count is; what was not at its goal when gunicorn ended has moved."""
        self.tell_counts(mine)
        say("Those have moved to the worker of which gunicorn has said `handed_off` above.")

    def has_ended(self, mine: list[int]) -> bool:
        """Tell whether all counts are at their goal."""
        return all(count.reached == count.goal for count in self.counts() if count.pk in mine)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Start a Redis server that keeps nothing on a disk; return its address."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("The tour with huey needs redis-server: install Debian's package of that name.")
    with tempfile.TemporaryDirectory(prefix="gallery-redis-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "socket"
        say("Starting Redis ...")
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder, "--loglevel", "warning"]
        server = subprocess.Popen([program, *options])
        try:
            until = time.monotonic() + PATIENCE
            while not path.exists() and time.monotonic() < until and server.poll() is None:
                time.sleep(0.05)
            yield f"unix://{path}"
        finally:
            server.terminate()
            server.wait(PATIENCE)


TOURS = {"django-tasks-db": DurableTour, "huey": HueyTour}


def main() -> int:
    """Read the command line and run the tour."""
    parser = argparse.ArgumentParser(prog="python -m example_project.tour_durable", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="default 8000; if taken, any free one")
    parser.add_argument("--seconds", type=float, help="how long the counts run before gunicorn is stopped; default 2.5")
    parser.add_argument("--engine", choices=list(TOURS), default="django-tasks-db", help="default django-tasks-db")
    options = parser.parse_args()
    tour = TOURS[options.engine]
    os.environ["DJANGO_SETTINGS_MODULE"] = tour.settings
    with contextlib.ExitStack() as stack:
        if options.engine == "huey":
            os.environ["EXAMPLE_REDIS"] = stack.enter_context(redis())
        import django  # the tour before this one needs no Django in its own process

        django.setup()
        try:
            return tour(free_port(options.port)).run(options.seconds)
        except KeyboardInterrupt:
            return 130
        except subprocess.CalledProcessError as error:
            say(str(error))
            return 1


if __name__ == "__main__":
    sys.exit(main())
