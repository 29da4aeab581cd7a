"""Runs scheduled tasks: APScheduler's timer and bookkeeping, our greenlets. Jobs live in memory and are declared in
code.

Tasks run in each replica. A run that is still at work when the next is due is not started a second time; runs that
were missed while the loop was held are made up for once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import gevent
from apscheduler.executors.base import run_job
from apscheduler.executors.gevent import GeventExecutor
from apscheduler.schedulers.gevent import GeventScheduler

from ..context import Context, Service, TaskRequest, call_in_context
from ..dispatch.blocking import BlockingPool
from ..dispatch.guard import FAULTS
from ..logs import runtime_logger
from ..metrics import Metrics
from ..registry import Task
from ..schedule import make_trigger


class _Executor(GeventExecutor):  # type: ignore[misc]
    """Keeps the greenlets (so that a drain can wait for them) and tells a run its planned time."""

    def start(self, scheduler: Any, alias: str) -> None:
        super().start(scheduler, alias)
        self.running: set[gevent.Greenlet[..., Any]] = set()
        self.scheduled: dict[Any, float] = {}

    def _do_submit_job(self, job: Any, run_times: list[Any]) -> None:
        greenlet = gevent.Greenlet(run_job, job, job._jobstore_alias, run_times, self._logger.name)
        self.scheduled[greenlet] = run_times[-1].timestamp()
        self.running.add(greenlet)
        greenlet.link(lambda ended: self._ended(job, ended))
        greenlet.start()

    def _ended(self, job: Any, greenlet: Any) -> None:
        self.running.discard(greenlet)
        self.scheduled.pop(greenlet, None)
        if greenlet.successful() and not isinstance(greenlet.value, gevent.GreenletExit):
            self._run_job_success(job.id, greenlet.value)
        else:
            error = greenlet.exception or gevent.GreenletExit()
            self._run_job_error(job.id, error, error.__traceback__)


class Scheduler:
    """The tasks of one application."""

    def __init__(self, app: Service, blocking: BlockingPool, metrics: Metrics) -> None:
        self._app, self._blocking, self._metrics = app, blocking, metrics
        self._executor = _Executor()
        self._tasks: dict[str, Task] = {}
        self.changed: Callable[[Task], None] = lambda task: None
        """Told of each task that is rescheduled."""
        self._scheduler = GeventScheduler(
            executors={"default": self._executor},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )

    def add(self, task: Task) -> None:
        """Schedule a task; before or after the start."""
        self._tasks[task.name] = task
        trigger = make_trigger(task.name, task.interval, task.cron, task.timezone, task.jitter)
        self._scheduler.add_job(self._run, trigger, args=(task,), id=task.name, name=task.name)

    def reschedule(self, name: str, interval: float | None = None, cron: str | None = None) -> None:
        """Change when a task runs. KeyError for an unknown name."""
        task = dataclasses.replace(self._tasks[name], interval=interval, cron=cron)
        trigger = make_trigger(name, interval, cron, task.timezone, task.jitter)
        self._scheduler.reschedule_job(name, trigger=trigger)
        self._tasks[name] = task
        self.changed(task)

    def start(self) -> None:
        self._scheduler.start()

    def pause(self) -> None:
        """No further run begins."""
        if self._scheduler.running:
            self._scheduler.pause()

    def drain(self, deadline: float) -> bool:
        """Wait for runs in flight until `deadline` (time.monotonic); whether they all ended. The others are cut off."""
        running = list(self._executor.running) if self._scheduler.running else []
        gevent.joinall(running, timeout=max(0.0, deadline - time.monotonic()))
        late = [greenlet for greenlet in running if not greenlet.ready()]
        gevent.killall(late, block=False)
        return not late

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _run(self, task: Task) -> None:
        scheduled = self._executor.scheduled.get(gevent.getcurrent(), time.time())
        run_task(self._app, task, scheduled, self._blocking, self._metrics)


def run_task(app: Service, task: Task, scheduled: float, blocking: BlockingPool, metrics: Metrics) -> None:
    """One run of a task, planned for `scheduled` (Unix seconds). What it raises is logged and goes no further."""
    context = Context(app, TaskRequest(app.service, task.name, scheduled))
    begun, failed = time.perf_counter(), False
    try:
        call_in_context(context, task.function, run=blocking.run if task.blocking else None)
    except FAULTS:
        failed = True
        runtime_logger.exception("task %r failed; it goes on at its next time", task.name)
    metrics.handler("task", task.name).done(time.perf_counter() - begun, failed)
