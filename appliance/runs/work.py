"""What a step has at hand while it works: its run's parameters and facts, the site, vCenters, and whom to tell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from appliance.control import ControlLoop
from appliance.runs.parameters import Parameters
from appliance.runs.record import Record
from appliance.runs.step import RunCancelledError
from appliance.site import Site
from appliance.state.models import Run, RunState
from appliance.vcenters import Vcenters
from vcenter.inventory import Inventory
from vcenter.reading import load
from vcenter.session import Session
from vcenter.tasks import ProgressEvent

WRITE_PROGRESS_S = 0.5
"""Progress comes often; rows are written no oftener than this."""


@dataclass(frozen=True)
class Ground:
    """What all runs of this process stand on."""

    site: Site
    engine: Engine
    loop: ControlLoop
    vcenters: Vcenters


class Work:
    """One step at work. `record` is None for a dry run: then nothing is written, and nothing may be changed."""

    def __init__(
        self, ground: Ground, run: Run, parameters: Parameters, *, record: Record | None = None, ordinal: int = 0
    ) -> None:
        self.ground = ground
        self.run = run.id
        self.vcenter = run.vcenter
        self.parameters: Any = parameters
        self.facts: dict[str, Any] = dict(run.facts)
        self._sealed = run.sealed
        self._record = record
        self._ordinal = ordinal
        self._wrote = 0.0
        self._undoing = False

    @property
    def dry(self) -> bool:
        return self._record is None

    def secrets(self) -> dict[str, str]:
        """The secrets among the run's parameters."""
        if not self._sealed:
            return {}
        opened: dict[str, str] = json.loads(self.ground.site.unseal(self._sealed))
        return opened

    def session(self) -> Session:
        """The session with the run's vCenter. Raises VcenterError."""
        return self.ground.vcenters.session(self.vcenter)

    def inventory(self) -> Inventory:
        """The inventory as it is at this moment, read anew."""
        session = self.session()
        with session.doing("Reading the inventory"):
            return load(session)

    def keep(self, **facts: Any) -> None:
        """Remember something for later steps, other processes and the way back."""
        self.facts.update(facts)
        if self._record is not None and facts:
            self._record.keep(facts)

    def undo(self) -> None:
        """From now on this is the way back: it cannot be cancelled."""
        self._undoing = True

    def check(self) -> None:
        """A place where the run may stop. Raises RunCancelledError or SupersededError."""
        if self._record is not None:
            state = self._record.state()
            if state == RunState.CANCELLING and not self._undoing:
                raise RunCancelledError("cancelled")

    def say(self, line: str, fraction: float | None = None) -> None:
        """A line for the step's log, and how far it is (0 to 1) where known. Raises what `check` raises."""
        if self._record is None:
            return
        self._record.change_step(self._ordinal, line=line, event=line, progress=fraction)
        self._wrote = time.monotonic()
        self.check()

    def progress(self, fraction: float | None, text: str = "") -> None:
        """How far it is; written now and then. Raises what `check` raises."""
        if self._record is None or time.monotonic() - self._wrote < WRITE_PROGRESS_S:
            return
        self._wrote = time.monotonic()
        self._record.change_step(self._ordinal, event=text or "at work", progress=fraction)
        self.check()

    def following(self, *, stoppable: bool = True) -> Callable[[ProgressEvent], None]:
        """Progress of a vCenter operation as progress of this step. One that must not be torn is not `stoppable`."""
        last = ""

        def told(event: ProgressEvent) -> None:
            nonlocal last
            fraction = None if event.percent is None else event.percent / 100
            said = f"{event.step} {event.object_name}" + (f": {event.message}" if event.message else "")
            try:
                if event.step != last:
                    last = event.step
                    self.say(said, fraction)
                else:
                    self.progress(fraction, said)
            except RunCancelledError:
                if stoppable:
                    raise

        return told
