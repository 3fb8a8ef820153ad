"""The lane of helper processes, put together for one scheduler; imported with the first item that goes there."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from django_qbwi import conf
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane, Limits
from django_qbwi.core.ports import Environment
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.executors.processes.executor import ProcessExecutor
from django_qbwi.executors.processes.process import Setup
from django_qbwi.intake.crossing import PROCESS, Crossing
from django_qbwi.intake.intake import Surrounded
from django_qbwi.machine.primitives import holding


class ProcessLane:
    """The one lane of helper processes, and its executor."""

    def __init__(self, lane: Lane[WorkItem], executor: ProcessExecutor, scheduler: WorkItemScheduler) -> None:
        self.lane = lane
        self.executor = executor
        self._scheduler = scheduler

    def __repr__(self) -> str:
        return f"<ProcessLane {self.executor!r}>"

    def put(self, item: WorkItem, crossing: Crossing) -> None:
        """Have a new item run in a helper, inside of what its carriers restore here too, for its records.

        Raises:
            WorkItemRejected: Helpers die of it.
        """
        refusal = self.executor.refusal(item.name)
        if refusal is not None:
            rejected = WorkItemRejected(f"{item.name} was not queued: {refusal}")
            self._scheduler.observer.rejected(item, rejected)
            raise rejected
        function, args = item.work
        if isinstance(function, Surrounded):
            call = self.executor.call_of(function.function, crossing)
            item.replace_work(function.around(call), args)
        else:
            item.replace_work(self.executor.call_of(function, crossing), args)

    def deadline_changed(self) -> None:
        """Have the helpers know of the limit of a drain; in the keeper's thread."""
        self.executor.deadline_changed()


def process_lane(scheduler: WorkItemScheduler, settings: conf.Settings, environment: Environment) -> ProcessLane:
    """Return the lane of helper processes of a scheduler, which gets it if it has none.

    Raises:
        ImproperlyConfigured: There is no settings module that helpers could be set up with.
    """
    module = _settings_module()
    if not module:
        raise ImproperlyConfigured(
            'executor="process" needs a settings module, with which helper processes are set up, and the settings '
            "were made by settings.configure(): name a module in DJANGO_SETTINGS_MODULE"
        )
    return holding(scheduler.lock, _attach, scheduler, settings, environment, module)


def _settings_module() -> str | None:
    found: Any = django_settings
    # override_settings() lays others above those of the module.
    while getattr(found, "SETTINGS_MODULE", None) is None and hasattr(found, "default_settings"):
        found = found.default_settings
    return getattr(found, "SETTINGS_MODULE", None)


def _attach(
    scheduler: WorkItemScheduler, settings: conf.Settings, environment: Environment, module: str
) -> ProcessLane:
    lane = scheduler.lanes.get(PROCESS)
    if lane is None:
        lane = Lane[WorkItem](PROCESS, "sync", Limits(running=settings.process_workers))
        setup = Setup(module, settings.process_nice, settings.process_python, settings.context)
        ProcessExecutor(scheduler, lane, setup, max_items=settings.process_max_items, environment=environment)
        # In one store: others go through the lanes without the lock.
        scheduler.lanes = {**scheduler.lanes, PROCESS: lane}
    executor = lane.executor
    assert isinstance(executor, ProcessExecutor)
    return ProcessLane(lane, executor, scheduler)
