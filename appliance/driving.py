"""vCenter drives: the appliance process that decides looks at tags and inventory, starts the runs they ask for, notices
what was changed by hand, and writes the state of servers back where vCenter's administrators look.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

import structlog
from pydantic import ValidationError
from pyVmomi import vim
from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from appliance.runs import record
from appliance.runs.engine import RunEngine
from appliance.runs.kinds import FINAL, KINDS, new_run
from appliance.runs.step import RunError
from appliance.settings import read_settings
from appliance.state.database import DatabaseGoneError, reading, writing
from appliance.state.models import Event, Gpu, Reading, Run, RunState, Server, now
from appliance.vcenters import Followed
from appliance.wishes import Action, Drift, PastRun, Sight, borne, decide, drifts, latest
from vcenter.attributes import Attribute, apply_attributes, plan_attributes
from vcenter.errors import VcenterError
from vcenter.tags import Tag

log = structlog.get_logger(__name__)
LOOK_S = 2.0
"""How often tags are looked at: vCenter does not report their changes by itself."""
WRITE_BACK_S = 10.0
TELL_S = 1.0
REST_S = 0.3
KINDS_SEEN = ("provision-server", "decommission-server", "enable-client", "disable-client")


class Driving:
    """One thread; it acts only while this process decides over the site."""

    def __init__(self, runs: RunEngine) -> None:
        self.runs = runs
        self.ground = runs.ground
        self.engine = runs.engine
        self._borne: dict[str, frozenset[tuple[str, Tag]]] = {}
        self._gone: dict[str, frozenset[tuple[str, Tag]]] = {}
        self._told: dict[str, str] = {}
        self._shown: dict[tuple[str, str], str] = {}
        self._write_at = 0.0
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._changed: set[str] = set()
        self._tell_at = 0.0
        self._thread = threading.Thread(target=self._watch, name="driving", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join(15)

    def wake(self, vcenter: str = "") -> None:
        """Something changed in a vCenter."""
        if vcenter:
            self._changed.add(vcenter)
        self._wake.set()

    def _tell_changes(self) -> None:
        """An event for whoever shows the inventory; only the newest of a vCenter is kept, for there are many."""
        changed, self._changed = self._changed, set()
        with writing(self.engine) as session:
            for vcenter in changed:
                session.execute(delete(Event).where(Event.kind == "vcenter.inventory", Event.subject == vcenter))
                session.add(Event(kind="vcenter.inventory", subject=vcenter, text="the inventory has changed"))

    def _watch(self) -> None:
        while not self._stopping.is_set():
            if self.ground.loop.leading:
                for followed in self.ground.vcenters.all():
                    try:
                        if self._changed and time.monotonic() >= self._tell_at:
                            self._tell_at = time.monotonic() + TELL_S
                            self._tell_changes()
                        self._look(followed)
                    except (VcenterError, DatabaseGoneError, SQLAlchemyError) as failure:
                        log.warning("vcenter-not-looked-at", vcenter=followed.name, error=str(failure))
                    except Exception:
                        log.exception("vcenter-not-looked-at", vcenter=followed.name)
            else:
                self._borne.clear()
                self._gone.clear()
            self._wake.wait(LOOK_S)
            self._wake.clear()
            # What changes comes in flocks.
            self._stopping.wait(REST_S)

    def _look(self, followed: Followed) -> None:
        seen = followed.seen()
        if seen is None or seen.stale:
            return
        wanted = borne(followed.read_tags())
        before = self._borne.get(followed.id)
        off = frozenset() if before is None else (before | self._gone[followed.id]) - wanted
        runs = self._runs(followed.name)
        first = self._first(runs, wanted) if before is None else frozenset()
        # A tag counts as taken off when it is off twice in a row; that is also so for those that were taken off while
        # nobody looked.
        missed = off & self._gone.get(followed.id, frozenset())
        sight = Sight(
            vcenter=followed.name,
            inventory=seen.inventory,
            wanted=wanted,
            fresh=frozenset() if before is None else wanted - before,
            missed=missed,
            known=followed.tags_known,
        )
        self._borne[followed.id], self._gone[followed.id] = wanted, off | first
        with reading(self.engine) as session:
            settings = read_settings(session)
        for action in decide(sight, runs, settings.server_defaults, settings.client_defaults):
            self._do(followed.name, action)
        self._note(followed.name, drifts(sight, runs))
        if time.monotonic() >= self._write_at:
            self._write_at = time.monotonic() + WRITE_BACK_S
            self._write_back(followed, runs)

    def _first(self, runs: list[PastRun], wanted: frozenset[tuple[str, Tag]]) -> frozenset[tuple[str, Tag]]:
        """What runs marked once and bears no tag at the first look of this process."""
        marked: set[tuple[str, Tag]] = set()
        for run in latest(runs, KINDS_SEEN[:2]).values():
            marked |= {(str(run.facts.get("host")), Tag.GPU_SERVER)} if run.kind == "provision-server" else set()
        for run in latest(runs, KINDS_SEEN[2:]).values():
            marked |= {(str(run.facts.get("vm")), Tag.CLIENT)} if run.kind == "enable-client" else set()
        return frozenset(marked - wanted)

    def _runs(self, vcenter: str) -> list[PastRun]:
        with reading(self.engine) as session:
            query = select(Run).where(Run.vcenter == vcenter, Run.kind.in_(KINDS_SEEN)).order_by(Run.id)
            return [
                PastRun(row.id, row.kind, row.subject, RunState(row.state), row.parameters, row.facts)
                for row in session.scalars(query)
            ]

    # Wishes

    def _do(self, vcenter: str, action: Action) -> None:
        actor = f"a tag in vCenter {vcenter}"
        try:
            with writing(self.engine) as session:
                if action.verb == "start":
                    kind = KINDS[action.kind]
                    wanted = kind.parameters.model_validate(action.parameters)
                    run = record.add(session, new_run(kind, wanted, self.ground), actor)
                    run.facts = {"by_tag": True}
                else:
                    run = session.get_one(Run, action.run)
                    if action.verb == "retry":
                        record.ask_retry(session, run)
                    elif action.verb == "cancel":
                        record.ask_cancel(session, run)
                    else:
                        record.ask_roll_back(session, run, FINAL)
                session.add(Event(kind="vcenter.wish", subject=run.id, text=f"{action.why}: {action.verb} {run.kind}"))
            log.info("vcenter-wish", why=action.why, verb=action.verb, run=run.id)
        except ValidationError as wrong:
            said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong.errors())
            setting = "server_defaults" if action.kind == "provision-server" else "client_defaults"
            self._say_once(action.why, f"cannot be fulfilled: {said}. Set {setting}: PATCH /v1/settings")
        except (record.NotNowError, RunError) as wrong:
            self._say_once(action.why, str(wrong))
        self.runs.wake()

    def _say_once(self, about: str, text: str) -> None:
        if self._told.get(about) != text:
            self._told[about] = text
            log.warning("vcenter-wish-refused", about=about, why=text)
            with writing(self.engine) as session:
                session.add(Event(kind="vcenter.wish-refused", subject=about[:200], text=text[:500]))

    # What was changed by hand

    def _note(self, vcenter: str, found: list[Drift]) -> None:
        for drift in found:
            subject = f"{vcenter}/{drift.server}"
            state = "failed" if drift.wrong else "ok"
            key = f"{subject} {drift.check}"
            if self._told.get(key) == f"{state} {drift.value}":
                continue
            self._told[key] = f"{state} {drift.value}"
            with writing(self.engine) as session:
                row = session.get(Reading, (subject, drift.check))
                was = row.state if row is not None else "ok"
                if row is None:
                    row = Reading(subject=subject, check=drift.check, threshold="as its run left it")
                    session.add(row)
                row.state, row.value, row.meaning, row.remedy = state, drift.value, drift.meaning, drift.remedy
                row.measured_at = now()
                if was != state:
                    what = "changed by hand" if drift.wrong else "as it should be again"
                    text = f"{drift.server}: {drift.meaning.rstrip('.')} is {drift.value}: {what}"
                    session.add(Event(kind="vcenter.drift", subject=subject, text=text))
                if was != state and drift.repair:
                    self._repair(session, drift)
        self.runs.wake()

    def _repair(self, session: Any, drift: Drift) -> None:
        """A run like the one that made the server: it does what is missing."""
        made = session.get_one(Run, drift.run)
        moving = session.scalars(
            select(func.count()).select_from(Run).where(Run.subject == made.subject, Run.state.in_(record.MOVING))
        ).one()
        if moving:
            return
        kind = KINDS[made.kind]
        wanted = kind.parameters.model_validate({**made.parameters, "gpus": list(made.facts["gpus"])})
        new = replace(new_run(kind, wanted, self.ground), sealed=made.sealed)
        run = record.add(session, new, "the state that vCenter's tag wants")
        run.facts = {"by_tag": True}
        session.add(Event(kind="vcenter.repair", subject=run.id, text=f"{drift.server}: {drift.check}: {drift.value}"))

    # What vCenter shows

    def _write_back(self, followed: Followed, runs: list[PastRun]) -> None:
        seen = followed.seen()
        if seen is None:
            return
        for run in latest(runs, KINDS_SEEN[:2]).values():
            vm = str(run.facts.get("vm", ""))
            if run.kind != "provision-server" or not run.facts.get("marked") or vm not in seen.inventory.vms:
                continue
            shown = self._state_of(run.subject)
            if shown is None or self._shown.get((followed.id, vm)) == json.dumps(shown):
                continue
            session = followed.session()
            state, use = shown
            values = {Attribute.POOL_STATE: state, Attribute.GPU_USE: use, Attribute.LAST_RUN: run.id}
            ref = session.object(vim.VirtualMachine, vm)
            apply_attributes(session, plan_attributes(session, ref, run.subject, values))
            self._shown[followed.id, vm] = json.dumps(shown)

    def _state_of(self, name: str) -> tuple[str, str] | None:
        with reading(self.engine) as session:
            row = session.scalars(select(Server).where(Server.name == name)).one_or_none()
            if row is None:
                return None
            gpus = session.scalars(select(Gpu).where(Gpu.server_id == row.id, Gpu.state != "missing")).all()
            here = self.ground.loop.presence.route_to_server(row.id) is not None
            state = {"active": "in the pool"}.get(row.state, str(row.state))
            used = f"{sum(gpu.reserved_mib for gpu in gpus)} of {sum(gpu.memory_mib for gpu in gpus)} MiB reserved"
            return (state if here else f"{state}, not connected"), f"{len(gpus)} GPUs, {used}"
