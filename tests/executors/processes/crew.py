"""A scheduler whose only lane has real helper processes, without Django."""

from collections.abc import Callable
from typing import Any

from django_qbwi.core.attempts import let_try_again
from django_qbwi.core.calls import Call, Options
from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of
from django_qbwi.core.lanes import Lane, Limits
from django_qbwi.executors.processes.executor import ProcessExecutor
from django_qbwi.executors.processes.process import HelperProcess, Setup
from django_qbwi.intake.crossing import PROCESS, crossing
from tests.support.runtime import Runtime

SITE = "tests.executors.processes.functions:PlainSite"


class Crew(Runtime):
    """One scheduler with helpers."""

    def __init__(
        self, *, workers: int = 1, max_items: int = 1000, nice: int = 0, settings: str = "", **options: Any
    ) -> None:
        super().__init__(**options)
        self.started: list[HelperProcess] = []
        lane = Lane[WorkItem](PROCESS, "sync", Limits(running=workers))
        setup = Setup(settings=settings, nice=nice, site=SITE)
        self.helpers = ProcessExecutor(self.scheduler, lane, setup, max_items=max_items, start=self._start)
        self.scheduler.lanes = {**self.scheduler.lanes, PROCESS: lane}

    def queue(self, work_item: Callable[..., Any], *args: Any, **options: Any) -> WorkItemHandle:
        """Queue a call for a helper."""
        retry = options.get("retry")
        item = self.scheduler.make_item(Call(work_item, args, options=Options(lane=PROCESS, **options)))
        item.replace_work(self.helpers.call_of(work_item, crossing(work_item, args)), args)
        if retry is not None:
            let_try_again(item)
            self.scheduler.queue_when_told(item, lambda: None)
        else:
            self.scheduler.queue(item)
        return handle_of(item)

    def _start(self, setup: Setup) -> HelperProcess:
        helper = HelperProcess(setup)
        self.started.append(helper)
        return helper
