"""A tour of the hand-off: `python -m example_project.tour_durable`.

Starts the example site under gunicorn and a worker of django-tasks-db beside it, queues counts, stops gunicorn in the
middle of them, and waits until the worker has finished what was left. It ends by itself.
"""

import argparse
import os
import subprocess
import sys
import time

from example_project.tour import PATIENCE, Tour, command, free_port, say

GOAL = 6  # one a second
COUNTS = 4  # two of them wait: there are two workers


class DurableTour(Tour):
    """The server, the worker beside it, and what moves from the one to the other."""

    settings = "example_project.settings_durable"

    def run(self, seconds: float | None) -> int:
        """Show everything, and return 0 if all counts have reached their goal."""
        self.migrate()
        before = [count.pk for count in self.counts()]
        say("Starting the worker (manage.py db_worker) ...")
        worker = self.start(self.db_worker())
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

    def db_worker(self) -> list[str]:
        """Return the command of the worker; with DEBUG it would start itself again whenever a file changes."""
        return command("example_project.manage", "db_worker", "--backend=durable", "--no-reload", "--interval=0.2")

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
        for count in self.counts():
            if count.pk in mine:
                say(f"    count {count.pk} has reached {count.reached or 0} of {count.goal}")
        moved = [result for result in self.results() if result.args_kwargs["args"][1][0] in mine]
        say(f"{len(moved)} of {len(mine)} counts have moved to the worker, each under its own id:")
        for result in moved:
            _, args, _, options = result.args_kwargs["args"]
            say(f"    {result.id.hex}: {options['name']}, goes on with count_on(token, {', '.join(map(str, args))})")

    def results(self) -> list:
        """Return the rows of the engine."""
        from django_tasks_db.models import DBTaskResult  # needs the settings

        return list(DBTaskResult.objects.order_by("enqueued_at"))

    def wait_for(self, mine: list[int]) -> bool:
        """Wait until the worker has nothing left to do, and say what has become of the counts."""
        say("Waiting for the worker ...")
        until = time.monotonic() + PATIENCE
        while any(result.status in ("READY", "RUNNING") for result in self.results()) and time.monotonic() < until:
            time.sleep(0.2)
        ended = [count for count in self.counts() if count.pk in mine]
        for count in ended:
            say(f"    count {count.pk} has reached {count.reached or 0} of {count.goal}")
        done = all(count.reached == count.goal for count in ended)
        say("The worker has finished all of them." if done else "Not all of them are finished.")
        return done


def main() -> int:
    """Read the command line and run the tour."""
    parser = argparse.ArgumentParser(prog="python -m example_project.tour_durable", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="default 8000; if taken, any free one")
    parser.add_argument("--seconds", type=float, help="how long the counts run before gunicorn is stopped; default 2.5")
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = DurableTour.settings
    import django  # the tour before this one needs no Django in its own process

    django.setup()
    try:
        return DurableTour(free_port(options.port)).run(options.seconds)
    except KeyboardInterrupt:
        return 130
    except subprocess.CalledProcessError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
