"""The rows of runs and their steps, and the events that say when to read them again.

A process works under a `term`: it gets one when it takes a run up, and every row it writes is refused once another
process has taken the run up after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from appliance.ids import new_id
from appliance.log import hide_secrets
from appliance.runs.step import SupersededError
from appliance.state.database import reading, writing
from appliance.state.models import Event, Run, RunState, RunStep, StepState, now

MOVING = (RunState.QUEUED, RunState.RUNNING, RunState.CANCELLING, RunState.ROLLING_BACK)
"""States in which somebody must be at work, or will be."""
OVER = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.ROLLED_BACK)
LOG_LINES = 200


def tell(session: Session, run: Run, what: str, text: str) -> None:
    """An event of a run, and its new revision."""
    run.revision += 1
    session.add(Event(kind=f"run.{what}", subject=run.id, text=hide_secrets(text)[:500], trace=run.trace))


@dataclass(frozen=True)
class NewRun:
    """A run to be made: its steps are written down now, so a newer version carries an older run out as it was made."""

    kind: str
    subject: str
    vcenter: str
    key: str
    parameters: Mapping[str, Any]
    sealed: str
    steps: Iterable[tuple[str, str, tuple[str, ...]]]


def add(session: Session, new: NewRun, actor: str, trace: str = "") -> Run:
    """Write a run and its steps; it is queued."""
    run = Run(
        id=new_id("run"),
        kind=new.kind,
        subject=new.subject,
        vcenter=new.vcenter,
        key=new.key,
        state=RunState.QUEUED,
        parameters=dict(new.parameters),
        sealed=new.sealed,
        facts={},
        actor=actor,
        trace=trace,
        attempt=1,
        revision=1,
    )
    session.add(run)
    session.flush()
    for ordinal, (name, title, targets) in enumerate(new.steps):
        session.add(RunStep(run_id=run.id, ordinal=ordinal, name=name, title=title, targets=list(targets), log=[]))
    tell(session, run, "queued", f"{new.kind} of {new.subject}, by {actor}")
    return run


def steps_of(session: Session, run: str) -> list[RunStep]:
    return list(session.scalars(select(RunStep).where(RunStep.run_id == run).order_by(RunStep.ordinal)))


class Record:
    """One run as the process that carries it out writes it, under one term. Raises SupersededError."""

    def __init__(self, engine: Engine, run: str, term: int) -> None:
        self.engine = engine
        self.run = run
        self.term = term

    @classmethod
    def take_up(cls, engine: Engine, run: str, attempt: int, executor: str) -> Record | None:
        """Begin or resume; None when there is nothing to do: it is over, or a later attempt is under way."""
        with writing(engine) as session:
            row = session.get(Run, run)
            if row is None or row.attempt != attempt or row.state not in MOVING:
                return None
            row.term += 1
            row.executor = executor
            if row.state == RunState.QUEUED:
                row.state = RunState.RUNNING
                row.started_at = row.started_at or now()
                tell(session, row, "started", f"{row.kind} of {row.subject}")
            elif row.started_at is not None and row.term > 1 and row.state != RunState.ROLLING_BACK:
                tell(session, row, "started", f"{row.kind} of {row.subject} is resumed")
            return cls(engine, run, row.term)

    def _mine(self, session: Session) -> Run:
        row = session.scalars(select(Run).where(Run.id == self.run).with_for_update()).one()
        if row.term != self.term:
            raise SupersededError(f"{self.run} was taken up by {row.executor}")
        return row

    def state(self) -> RunState:
        """The state as it is now; raises SupersededError."""
        with reading(self.engine) as session:
            row = session.get_one(Run, self.run)
            if row.term != self.term:
                raise SupersededError(f"{self.run} was taken up by {row.executor}")
            return RunState(row.state)

    def read(self) -> tuple[Run, list[RunStep]]:
        with reading(self.engine) as session:
            run, steps = session.get_one(Run, self.run), steps_of(session, self.run)
            session.expunge_all()
        return run, steps

    def keep(self, facts: Mapping[str, Any]) -> None:
        """Remember facts for later steps and processes."""
        with writing(self.engine) as session:
            row = self._mine(session)
            row.facts = {**row.facts, **facts}

    def begin_step(self, ordinal: int) -> RunStep:
        with writing(self.engine) as session:
            row, step = self._mine(session), session.get_one(RunStep, (self.run, ordinal))
            step.state = StepState.RUNNING
            step.attempts += 1
            step.progress, step.ended_at = None, None
            step.started_at = now()
            tell(session, row, "step", f"{step.title}: started")
            return step

    def change_step(self, ordinal: int, *, event: str = "", line: str = "", over: bool = False, **values: Any) -> None:
        """Write columns of a step; `line` joins its log, `event` is told to whoever watches."""
        with writing(self.engine) as session:
            row, step = self._mine(session), session.get_one(RunStep, (self.run, ordinal))
            for name, value in values.items():
                setattr(step, name, hide_secrets(value) if isinstance(value, str) else value)
            if line:
                step.log = [*step.log, f"{now():%H:%M:%S} {hide_secrets(line)}"[:500]][-LOG_LINES:]
            if over:
                step.ended_at = now()
            if event:
                tell(session, row, "step", f"{step.title}: {event}")
            else:
                row.revision += 1

    def finish(self, state: RunState, error: str = "", remedy: str = "") -> None:
        """The run is over, for now."""
        with writing(self.engine) as session:
            row = self._mine(session)
            row.state, row.error, row.remedy = state, hide_secrets(error)[:2000], hide_secrets(remedy)[:2000]
            row.ended_at = now()
            said = f": {row.error}" if error else ""
            tell(session, row, state.value, f"{row.kind} of {row.subject}{said}")


class NotNowError(Exception):
    """What was asked of a run does not fit its state; the text says which would."""


def ask_cancel(session: Session, run: Run) -> None:
    """Queued runs are cancelled at once, running ones at their next safe place. Asking again does nothing."""
    if run.state == RunState.QUEUED:
        run.state, run.ended_at = RunState.CANCELLED, now()
        tell(session, run, "cancelled", f"{run.kind} of {run.subject}, before it had begun")
    elif run.state == RunState.RUNNING:
        run.state = RunState.CANCELLING
        tell(session, run, "cancelling", f"{run.kind} of {run.subject}")
    elif run.state not in (RunState.CANCELLING, RunState.CANCELLED):
        raise NotNowError(f"{run.id} is {run.state}; a queued or running run can be cancelled")


def ask_retry(session: Session, run: Run) -> None:
    """Queue it again; it looks at every step anew, and does what is missing."""
    if run.state not in (RunState.FAILED, RunState.CANCELLED, RunState.ROLLED_BACK):
        raise NotNowError(f"{run.id} is {run.state}; a failed, cancelled or rolled-back run can be retried")
    if run.state == RunState.ROLLED_BACK:
        run.facts = {name: value for name, value in run.facts.items() if name == "by_tag"}
    run.state, run.error, run.remedy, run.ended_at = RunState.QUEUED, "", "", None
    run.attempt += 1
    session.execute(
        update(RunStep)
        .where(RunStep.run_id == run.id, RunStep.state.in_((StepState.FAILED, StepState.RUNNING, StepState.UNDONE)))
        .values(state=StepState.PENDING, progress=None)
    )
    tell(session, run, "queued", f"{run.kind} of {run.subject}, again")


def ask_roll_back(session: Session, run: Run, final: Collection[str] = ()) -> None:
    """Take back what it did, from the last step to the first; not when it did one of the `final` steps."""
    if run.state not in (RunState.FAILED, RunState.CANCELLED, RunState.SUCCEEDED):
        raise NotNowError(f"{run.id} is {run.state}; a failed, cancelled or succeeded run can be rolled back")
    done = [step.title for step in steps_of(session, run.id) if step.acted and step.name in final]
    if done:
        raise NotNowError(f"{run.id} did what cannot be taken back ({', '.join(done)}): retry it, or start the way on")
    run.state, run.error, run.remedy, run.ended_at = RunState.ROLLING_BACK, "", "", None
    run.attempt += 1
    tell(session, run, "rolling-back", f"{run.kind} of {run.subject}")


def older_than(session: Session, before: datetime, limit: int) -> list[str]:
    """Runs that ended before a moment: for forgetting them."""
    query = select(Run.id).where(Run.state.in_(OVER), Run.ended_at < before).limit(limit)
    return list(session.scalars(query))
