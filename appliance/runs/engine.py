"""Runs as durable workflows on DBOS: what is under way survives the death of this process, and of this machine.

A run waits in the queue `subjects`, whose partitions (the host or machine it changes) let one through at a time. It is
carried out by a child workflow in the queue of its lane, which limits how many work on one vCenter, or on guests.
DBOS knows which workflows are under way and which of a workflow's steps are over; what they found and did is in the
tables `run` and `run_step`.

Embedded, DBOS keeps its tables in `runs.db` of the site's folder. With PostgreSQL they lie in the schema `dbos` of the
appliance's own database: several processes share the queues, and the runs of one that died are taken over by another.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID
from sqlalchemy import delete, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from appliance.runs.carrying import Carrier, Outcome
from appliance.runs.kinds import KINDS
from appliance.runs.record import MOVING, Record
from appliance.runs.work import Ground
from appliance.settings import Settings, read_settings
from appliance.site import Site
from appliance.state.database import DatabaseGoneError, database_clock, patiently, reading, writing
from appliance.state.models import Run, RunExecutor, RunState

log = structlog.get_logger(__name__)
SUBJECTS = "subjects"
LANES = {"vcenter": "vcenter", "guests": "guests"}
POLL_S = 0.2
BEAT_S = 2.0
DEAD_AFTER_S = 15.0
"""An appliance process that was silent for so long has its runs taken over."""
VERSION = "1"
"""DBOS resumes workflows of one version only. Ours follow the steps that are written down, so it changes only with the
shape of the workflows below."""
FINAL = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def database_of(site: Site) -> str:
    """Where DBOS keeps its tables."""
    url = make_url(site.config.database)
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    return f"sqlite:///{(site.folder / 'runs.db').absolute()}"


class RunEngine:
    """Carries runs out. One of a process: DBOS keeps its own state in the module."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.engine = ground.engine
        self.executor = f"{socket.gethostname()}:{ground.site.config.api_port}"
        self.carrier = Carrier(ground)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="runs", daemon=True)
        self._beat_at = 0.0

    def start(self) -> None:
        """Launch DBOS and resume what this process left unfinished."""
        global _engine  # noqa: PLW0603 - DBOS calls module-level functions
        _engine = self
        settings = patiently(self._settings)
        config: DBOSConfig = {
            "name": "gpuferry",
            "system_database_url": database_of(self.ground.site),
            "executor_id": self.executor,
            "application_version": VERSION,
            "log_level": "ERROR",
            "sys_db_pool_size": 8,
        }
        DBOS(config=config)
        patiently(self._beat)
        DBOS.launch()
        limits: dict[str, Any] = {"polling_interval_sec": POLL_S, "on_conflict": "always_update"}
        DBOS.register_queue(SUBJECTS, partition_concurrency=1, **limits)
        DBOS.register_queue(LANES["vcenter"], partition_concurrency=settings.runs_per_vcenter, **limits)
        DBOS.register_queue(LANES["guests"], global_concurrency=settings.guests_at_once, **limits)
        self._thread.start()

    def _settings(self) -> Settings:
        with reading(self.engine) as session:
            return read_settings(session)

    def stop(self) -> bool:
        """Stop taking up runs and wait a moment for steps to end; False when one is still at work.

        What is unfinished is resumed by the next process, as after a crash.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)
        idle = self.carrier.close(2.0)
        try:
            with writing(self.engine) as session:
                session.execute(delete(RunExecutor).where(RunExecutor.id == self.executor))
        except DatabaseGoneError as away:
            log.warning("executor-not-signed-off", why=str(away))
        return idle

    def wake(self) -> None:
        """A run was added or changed."""
        self._wake.set()

    # Looking after the runs

    def _tend(self) -> None:
        while not self._stopping.is_set():
            try:
                self._beat()
                self._start_moving()
                self._take_over()
            except (DatabaseGoneError, SQLAlchemyError, OSError) as failure:
                log.warning("runs-not-tended", error=str(failure))
            except Exception:
                log.exception("runs-not-tended")
            self._wake.wait(BEAT_S / 2)
            self._wake.clear()

    def _beat(self) -> None:
        if time.monotonic() < self._beat_at:
            return
        with writing(self.engine) as session:
            at = database_clock(session.connection())
            row = session.get(RunExecutor, self.executor)
            if row is None:
                session.add(RunExecutor(id=self.executor, seen_at=at))
            else:
                row.seen_at = at
        self._beat_at = time.monotonic() + BEAT_S

    def _start_moving(self) -> None:
        """Every run that should be moving has a workflow: new ones get theirs here, and lost ones a new one."""
        with reading(self.engine) as session:
            moving = [
                (row.id, row.attempt, row.key)
                for row in session.execute(select(Run.id, Run.attempt, Run.key).where(Run.state.in_(MOVING)))
            ]
        for run, attempt, key in moving:
            status = DBOS.get_workflow_status(workflow_of(run, attempt))
            if status is None:
                self._enqueue(run, attempt, key)
            elif status.status in FINAL and self._ended_without(run, attempt):
                log.warning("run-without-workflow", run=run, status=status.status)

    def _enqueue(self, run: str, attempt: int, key: str) -> None:
        with SetWorkflowID(workflow_of(run, attempt)), SetEnqueueOptions(queue_partition_key=key[:200] or "-"):
            DBOS.enqueue_workflow(SUBJECTS, wait_turn, run, attempt)

    def _ended_without(self, run: str, attempt: int) -> bool:
        """Its workflow is over and it is not (the process was superseded, DBOS's tables were lost): a new attempt."""
        with writing(self.engine) as session:
            row = session.get(Run, run)
            if row is None or row.attempt != attempt or row.state not in MOVING:
                return False
            row.attempt += 1
            return True

    def _take_over(self) -> None:
        """Runs of appliance processes that are silent go back into the queue."""
        with reading(self.engine) as session:
            before = database_clock(session.connection()) - timedelta(seconds=DEAD_AFTER_S)
            known = {row.id: row.seen_at for row in session.scalars(select(RunExecutor))}
            at_work = set(session.scalars(select(Run.executor).where(Run.state.in_(MOVING), Run.executor != "")))
        silent = [id_ for id_, seen_at in known.items() if id_ != self.executor and seen_at < before]
        gone = sorted({*silent, *(id_ for id_ in at_work if id_ not in known)} - {self.executor})
        if gone:
            # DBOS offers no public call for this; its own recovery service makes the same one.
            taken = DBOS._recover_pending_workflows(gone)
            log.warning("runs-taken-over", executors=gone, workflows=len(taken))
            with writing(self.engine) as session:
                session.execute(delete(RunExecutor).where(RunExecutor.id.in_(silent), RunExecutor.seen_at < before))

    def carry(self, run: str, attempt: int) -> str:
        """Carry a run out, forwards or backwards, each step a checkpoint of DBOS. Returns the state it ended in."""
        record = Record.take_up(self.engine, run, attempt, self.executor)
        if record is None:
            return "nothing to do"
        row, steps = record.read()
        back = row.state == RunState.ROLLING_BACK
        ordered = reversed(steps) if back else iter(steps)
        outcome = Outcome.DONE
        for step in ordered:
            action: Callable[[Record, int], Outcome] = self.carrier.undo if back else self.carrier.carry
            said = DBOS.run_step({"name": f"{step.ordinal} {step.name}"}, _as_text, action, record, step.ordinal)
            outcome = Outcome(said)
            if outcome is not Outcome.DONE:
                break
        return str(DBOS.run_step({"name": "finish"}, self.carrier.finish, record, outcome.value, back))


def _as_text(action: Callable[[Record, int], Outcome], record: Record, ordinal: int) -> str:
    return action(record, ordinal).value


_engine: RunEngine | None = None


def workflow_of(run: str, attempt: int) -> str:
    return f"{run}.{attempt}"


@DBOS.workflow(name="wait_turn", max_recovery_attempts=1000)
def wait_turn(run: str, attempt: int) -> str:
    """Holds the place of its subject while the child carries the run out in its lane."""
    assert _engine is not None  # noqa: S101 - DBOS is launched by it
    with reading(_engine.engine) as session:
        row = session.get(Run, run)
        kind = KINDS[row.kind] if row is not None else None
        vcenter = row.vcenter if row is not None else ""
    if kind is None:
        return "it is forgotten"
    child = SetWorkflowID(f"{workflow_of(run, attempt)}.work")
    if kind.lane == "vcenter":
        with child, SetEnqueueOptions(queue_partition_key=vcenter or "-"):
            handle = DBOS.enqueue_workflow(LANES["vcenter"], carry_out, run, attempt)
    else:
        with child:
            handle = DBOS.enqueue_workflow(LANES["guests"], carry_out, run, attempt)
    return handle.get_result()


@DBOS.workflow(name="carry_out", max_recovery_attempts=1000)
def carry_out(run: str, attempt: int) -> str:
    """The steps of a run, in order."""
    assert _engine is not None  # noqa: S101 - DBOS is launched by it
    return _engine.carry(run, attempt)
