"""What tags in vCenter ask for, decided from an inventory and past runs alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from appliance.state.models import RunState
from appliance.wishes import Action, PastRun, Sight, decide, drifts
from vcenter import simulator
from vcenter.certificate import Trust
from vcenter.inventory import Inventory
from vcenter.reading import load
from vcenter.session import Endpoint, Session
from vcenter.tags import Tag

DEFAULTS = {"network": "dv-management"}


@pytest.fixture(scope="module")
def inventory() -> Iterator[Inventory]:
    with simulator.start(pace=0.001) as vcenter:
        endpoint = Endpoint(vcenter.host, vcenter.user, vcenter.port, Trust(thumbprint=vcenter.thumbprint))
        with Session(endpoint, vcenter.password) as session:
            yield load(session)


def sight(inventory: Inventory, **facts: Any) -> Sight:
    none: frozenset[tuple[str, Tag]] = frozenset()
    made = Sight("lab", inventory, none, none, none, frozenset(Tag))
    return replace(made, **facts)


def past(state: RunState, kind: str = "provision-server", **facts: Any) -> PastRun:
    return PastRun("run-1", kind, "gpu-server-esx-01", state, {"host": "esx-01.example.test"}, facts)


def verbs(actions: list[Action]) -> list[tuple[str, str]]:
    return [(each.verb, each.kind or each.run) for each in actions]


def test_a_tag_on_a_host_wants_a_server_once(inventory: Inventory) -> None:
    host = inventory.host("esx-01.example.test")
    tagged = sight(inventory, wanted=frozenset({(host.id, Tag.GPU_SERVER)}))
    [action] = decide(tagged, [], DEFAULTS, {})
    assert (action.verb, action.kind) == ("start", "provision-server")
    assert action.parameters == {
        "gpu_count": 2, "network": "dv-management", "vcenter": "lab", "host": host.name, "name": "gpu-server-esx-01",
    }  # fmt: skip
    for state in RunState:
        assert decide(tagged, [past(state)], DEFAULTS, {}) == [], f"a run that is {state} is not started again"
    again = replace(tagged, fresh=tagged.wanted)
    assert verbs(decide(again, [past(RunState.FAILED)], DEFAULTS, {})) == [("retry", "run-1")]
    gone = [past(RunState.SUCCEEDED), past(RunState.SUCCEEDED, "decommission-server")]
    assert verbs(decide(tagged, gone, DEFAULTS, {})) == [("start", "provision-server")]


def test_taking_it_off_starts_the_way_back(inventory: Inventory) -> None:
    key = (inventory.host("esx-01.example.test").id, Tag.GPU_SERVER)
    bare, missed = sight(inventory), sight(inventory, missed=frozenset({key}))
    served = past(RunState.SUCCEEDED, marked=True, by_tag=True)
    assert decide(bare, [served], {}, {}) == [], "one look without the tag proves nothing"
    assert verbs(decide(missed, [served], {}, {})) == [("start", "decommission-server")]
    assert decide(replace(missed, known=frozenset()), [served], {}, {}) == [], "the tag itself was deleted"
    assert decide(missed, [past(RunState.SUCCEEDED)], {}, {}) == [], "it never bore the tag"
    assert verbs(decide(missed, [past(RunState.RUNNING, by_tag=True)], {}, {})) == [("cancel", "run-1")]
    assert verbs(decide(missed, [past(RunState.FAILED, by_tag=True)], {}, {})) == [("roll-back", "run-1")]
    assert decide(missed, [past(RunState.RUNNING)], {}, {}) == [], "an operator's run is the operator's"
    assert decide(missed, [past(RunState.CANCELLING, by_tag=True)], {}, {}) == []
    assert decide(missed, [served, past(RunState.RUNNING, "decommission-server")], {}, {}) == []


def test_a_client_is_enabled_when_it_runs(inventory: Inventory) -> None:
    on, off = inventory.vm("client-01"), inventory.vm("client-02")
    keys = frozenset({(on.id, Tag.CLIENT), (off.id, Tag.CLIENT)})
    [action] = decide(sight(inventory, wanted=keys), [], {}, {"group": "lab"})
    assert action.parameters == {"group": "lab", "vcenter": "lab", "vm": "client-01"}
    enabled = PastRun(
        "run-2", "enable-client", "client-01", RunState.SUCCEEDED, {"vm": "client-01"},
        {"vm": on.id, "marked": True, "client": "client-7"},
    )  # fmt: skip
    assert decide(sight(inventory, wanted=keys), [enabled], {}, {}) == []
    [back] = decide(sight(inventory, missed=keys), [enabled], {}, {})
    assert (back.kind, back.parameters) == (
        "disable-client",
        {"vcenter": "lab", "vm": "client-01", "client": "client-7"},
    )


def test_what_was_changed_by_hand_is_noticed_and_repaired_only_where_it_is_wanted(inventory: Inventory) -> None:
    host = inventory.host("esx-01.example.test")
    vm = inventory.vm("client-02")  # off, and without GPUs: as a server's VM would be after somebody was at it
    run = past(RunState.SUCCEEDED, marked=True, vm=vm.id, host=host.id, gpus=[host.gpus[0].address])
    seen = {drift.check: drift for drift in drifts(sight(inventory), [run])}
    assert {check for check, drift in seen.items() if drift.wrong} == {"vcenter.power", "vcenter.gpus"}
    assert not any(drift.repair for drift in seen.values())
    assert seen["vcenter.gpus"].value == f"0 of 1, without {host.gpus[0].address}"
    wanted = sight(inventory, wanted=frozenset({(host.id, Tag.GPU_SERVER)}))
    assert {drift.check for drift in drifts(wanted, [run]) if drift.repair} == {"vcenter.power", "vcenter.gpus"}
    missing = replace(run, facts={**run.facts, "vm": "vm-none"})
    assert [drift.check for drift in drifts(wanted, [missing]) if drift.wrong] == ["vcenter.vm"]
    assert drifts(wanted, [replace(run, state=RunState.FAILED)]) == []
