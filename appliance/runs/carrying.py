"""One step carried out or taken back: look, act, and write down what was found and done, whatever happens."""

from __future__ import annotations

import enum
import threading
import time
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from appliance.runs.kinds import parameters_of, step_of
from appliance.runs.record import Record
from appliance.runs.step import Look, RunCancelledError, RunError, Step, SupersededError
from appliance.runs.work import Ground, Work
from appliance.state.database import DatabaseGoneError
from appliance.state.models import RunState, RunStep, StepState
from appliance.vcenters import NoSuchVcenterError
from vcenter.errors import Unreachable, VcenterError

log = structlog.get_logger(__name__)
TRIES = 4
"""So often a step is tried when vCenter does not answer."""
PAUSE_S = 1.0
DATABASE_PAUSE_S = 1.0


class Outcome(enum.StrEnum):
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


def explained(error: Exception) -> tuple[str, str]:
    """(what failed, what to do) of any error a step may raise."""
    if isinstance(error, RunError):
        return error.what, error.remedy
    if isinstance(error, VcenterError):
        remedy, error_text = error.remedy, str(error).removesuffix(error.remedy).strip()
        return error_text, remedy
    if isinstance(error, NoSuchVcenterError):
        return str(error), "Add the vCenter, then retry the run."
    remedy = str(getattr(error, "remedy", ""))
    what = str(getattr(error, "what", "") or error)
    if remedy:
        target = getattr(error, "target", "")
        return (f"{target}: {what}" if target and str(target) not in what else what), remedy
    return f"{type(error).__name__}: {error}", "This is a fault of the appliance: see its log, then retry the run."


class Carrier:
    """Carries steps out for the engine of this process."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._at_work = 0
        self._closed = False
        self._changed = threading.Condition()

    def close(self, seconds: float) -> bool:
        """No further step begins; True when none is at work any more within `seconds`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._closed = True
            while self._at_work and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
            return not self._at_work

    def _enter(self) -> None:
        with self._changed:
            while self._closed:
                # This process ends: what comes next is for the one that resumes the run.
                self._changed.wait()
            self._at_work += 1

    def _leave(self) -> None:
        with self._changed:
            self._at_work -= 1
            self._changed.notify_all()

    def carry(self, record: Record, ordinal: int) -> Outcome:
        """One step forwards."""
        return self._guarded(record, ordinal, self._carry)

    def undo(self, record: Record, ordinal: int) -> Outcome:
        """One step backwards; one that changed nothing is passed over."""
        return self._guarded(record, ordinal, self._undo)

    def _guarded(self, record: Record, ordinal: int, action: Any) -> Outcome:
        self._enter()
        try:
            while True:
                try:
                    outcome: Outcome = action(record, ordinal)
                    return outcome
                except SupersededError as other:
                    log.warning("run-superseded", run=record.run, why=str(other))
                    return Outcome.SUPERSEDED
                except (DatabaseGoneError, SQLAlchemyError) as away:
                    # Nothing can be written down, so nothing more is done until it can.
                    log.warning("run-waits-for-database", run=record.run, error=str(away))
                    time.sleep(DATABASE_PAUSE_S)
        finally:
            self._leave()

    def _work(self, record: Record, ordinal: int) -> tuple[RunStep, Step, Work]:
        run, steps = record.read()
        row = steps[ordinal]
        work = Work(self.ground, run, parameters_of(run.kind, run.parameters), record=record, ordinal=ordinal)
        return row, step_of(row), work

    def _carry(self, record: Record, ordinal: int) -> Outcome:
        row, step, work = self._work(record, ordinal)
        acted = row.acted
        for attempt in range(1, TRIES + 1):
            try:
                work.check()
                record.begin_step(ordinal)
                look = step.look(work)
                self._keep(work, look)
                if look.done:
                    state = StepState.DONE if step.check or acted else StepState.SKIPPED
                    record.change_step(
                        ordinal, state=state, found=look.found, progress=1.0, over=True, event=f"{look.found}"
                    )
                    return Outcome.DONE
                record.change_step(
                    ordinal, found=look.found, acted=True, event=f"found {look.found}", line=f"will {look.would}"
                )
                acted = True
                did = step.act(work)
                record.change_step(ordinal, state=StepState.DONE, did=did, progress=1.0, over=True, event=did)
                return Outcome.DONE
            except RunCancelledError:
                record.change_step(ordinal, state=StepState.PENDING, line="cancelled here", over=True)
                return Outcome.CANCELLED
            except (SupersededError, DatabaseGoneError, SQLAlchemyError):
                raise
            except Unreachable as away:
                if attempt == TRIES:
                    return self._failed(record, ordinal, away)
                record.change_step(ordinal, line=f"{away.what} Tried again.")
                time.sleep(PAUSE_S * attempt)
            except Exception as error:
                return self._failed(record, ordinal, error)
        return Outcome.FAILED

    def _keep(self, work: Work, look: Look) -> None:
        fresh = {name: value for name, value in look.keep.items() if name not in work.facts}
        if fresh:
            work.keep(**fresh)

    def _undo(self, record: Record, ordinal: int) -> Outcome:
        row, step, work = self._work(record, ordinal)
        if not row.acted:
            return Outcome.DONE
        work.undo()
        try:
            record.begin_step(ordinal)
            did = step.undo(work)
            record.change_step(
                ordinal,
                state=StepState.UNDONE,
                did=did or row.did,
                acted=False,
                progress=None,
                over=True,
                event=did or "nothing to take back",
            )
            return Outcome.DONE
        except (SupersededError, DatabaseGoneError, SQLAlchemyError):
            raise
        except Exception as error:
            return self._failed(record, ordinal, error)

    def _failed(self, record: Record, ordinal: int, error: Exception) -> Outcome:
        what, remedy = explained(error)
        log.warning("step-failed", run=record.run, step=ordinal, error=what, exc_info=not hasattr(error, "remedy"))
        record.change_step(ordinal, state=StepState.FAILED, line=what, over=True, event=f"failed: {what}")
        waits_for = getattr(error, "waits_for", "")
        record.keep({"failure": {"step": ordinal, "what": what, "remedy": remedy, "waits_for": waits_for}})
        return Outcome.FAILED

    def finish(self, record: Record, outcome: str, back: bool) -> str:
        """Write down how the run ended; returns that."""

        def end(_record: Record, _ordinal: int) -> Outcome:
            state, error, remedy = self._ending(record, Outcome(outcome), back)
            if state is not None:
                record.finish(state, error, remedy)
            return Outcome(outcome)

        return self._guarded(record, 0, end).value

    def _ending(self, record: Record, outcome: Outcome, back: bool) -> tuple[RunState | None, str, str]:
        if outcome is Outcome.SUPERSEDED:
            return None, "", ""
        if outcome is Outcome.CANCELLED:
            return RunState.CANCELLED, "", ""
        if outcome is Outcome.FAILED:
            run, steps = record.read()
            failure = run.facts.get("failure", {})
            what = failure.get("what", "a step failed")
            if 0 <= int(failure.get("step", -1)) < len(steps):
                what = f"{steps[int(failure['step'])].title}: {what}"
            if back:
                what = f"while rolling back: {what}"
            return RunState.FAILED, what, failure.get("remedy", "")
        if back:
            return RunState.ROLLED_BACK, "", ""
        return RunState.SUCCEEDED, "", ""


def dry_run(ground: Ground, run: Any, steps: list[RunStep]) -> None:
    """Let every step look, and write into its row what it found and would do; nothing is changed or started."""
    parameters = parameters_of(run.kind, run.parameters)
    for row in steps:
        work = Work(ground, run, parameters)
        try:
            look = step_of(row).look(work)
        except Exception as error:
            what, remedy = explained(error)
            row.state, row.found = StepState.FAILED, what
            run.error, run.remedy = run.error or what, run.remedy or remedy
            continue
        run.facts = {**look.keep, **run.facts, **work.facts}
        row.found, row.did = look.found, f"would {look.would}" if not look.done else ""
        row.state = StepState.SKIPPED if look.done else StepState.PENDING
