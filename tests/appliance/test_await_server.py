"""Steps that look at the pool: the wait for a new server's daemon and its GPUs, the servers a client must reach."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bus_site import BusSite, FakeHost
from sqlalchemy import Engine, update
from test_control_bus import eventually

from appliance.runs import record
from appliance.runs.carrying import Carrier, Outcome
from appliance.runs.client import DeployClient, server_addresses
from appliance.runs.kinds import parameters_of
from appliance.runs.record import NewRun, Record
from appliance.runs.server import JOIN_S
from appliance.runs.work import Ground, Work
from appliance.state.database import writing
from appliance.state.models import Server, ServerState

TAKEN = "GPU-11111111-2222-3333-4444-555555555555"


@pytest.fixture
def site(engine: Engine, database_url: str, tmp_path: Path) -> Iterator[BusSite]:
    made = BusSite(tmp_path / "site", engine, database_url)
    made.start()
    yield made
    made.close()


def awaited(site: BusSite, name: str, gpus: int) -> Any:
    """Carry the one step out for a server that should have so many GPUs: how it ended, and the run's row."""
    parameters = {
        "vcenter": "lab", "host": "esx-01", "name": name, "gpu_count": gpus,
        "source": {"template": "t"}, "network": "n",
    }  # fmt: skip
    new = NewRun("provision-server", name, "lab", name, parameters, "", [("await-server", "Wait for the daemon", ())])
    with writing(site.engine) as session:
        run = record.add(session, new, "a test")
        run.facts = {"gpus": ["0000:0b:00.0"] * gpus}
        id_ = run.id
    taken = Record.take_up(site.engine, id_, 1, "a test")
    assert taken is not None
    return Carrier(ground(site)).carry(taken, 0), taken.read()


def ground(site: BusSite) -> Ground:
    return Ground(site.site, site.engine, site.loop, None)  # type: ignore[arg-type]  # nobody asks vCenter


def test_gpus_that_another_server_has_are_refused_at_once(site: BusSite) -> None:
    site.connect("first", FakeHost("first:4751", {TAKEN: 16384}))
    site.connect("second", FakeHost("second:4751", {TAKEN: 16384, "GPU-own": 16384}))
    outcome, (run, [step]) = awaited(site, "second", 2)
    assert outcome is Outcome.FAILED
    failure = run.facts["failure"]
    assert TAKEN in failure["what"]
    assert "GPU-own" not in failure["what"]
    assert "already belongs to first" in failure["what"]
    assert "Decommission the server that has it" in failure["remedy"]
    assert step.ended_at - step.started_at < timedelta(seconds=JOIN_S), "it does not wait for what will not come"

    # What was wrong before does not count: the first server leaves, and the same daemon's GPU is taken.
    site.controls.pop("first").stop()
    outcome, (run, [step]) = awaited(site, "second", 2)
    assert outcome is Outcome.DONE, run.facts


def test_a_server_with_what_its_vm_has_is_awaited(site: BusSite) -> None:
    site.connect("one", FakeHost("one:4751", {"GPU-a": 16384, "GPU-b": 16384}))
    outcome, (_, [step]) = awaited(site, "one", 2)
    assert outcome is Outcome.DONE
    assert step.found.startswith("one is connected with Software A100")


def test_a_client_is_to_reach_the_servers_that_serve(site: BusSite) -> None:
    for name in ("one", "resting", "stopped"):
        site.connect(name, FakeHost(f"{name}:4751", {f"GPU-{name}": 16384}))
    site.controls.pop("stopped").stop()
    with writing(site.engine) as session:
        session.execute(update(Server).where(Server.name == "resting").values(state=ServerState.MAINTENANCE))
        run = record.add(session, NewRun("enable-client", "vm", "", "vm", {"address": "vm"}, "", []), "a test")
    work = Work(ground(site), run, parameters_of("enable-client", run.parameters))
    eventually(lambda: server_addresses(work) == ["one:4751"])
    config = site.site.config
    assert DeployClient().settings(work).reach == (
        f"{config.name}:{config.control_port}", f"{config.name}:{config.enrol_port}", "one:4751",
    )  # fmt: skip
