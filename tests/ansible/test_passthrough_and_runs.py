"""Passthrough through a run, on a simulated vCenter: foreseen, done with a reboot, repeated, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playing import Control, environment_of
from provisioning_site import ProvisioningSite, provisioning_site


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProvisioningSite]:
    folder = tmp_path_factory.mktemp("pool")
    with provisioning_site(folder, f"sqlite:///{folder}/appliance.db") as made:
        yield made


@pytest.fixture(scope="module")
def control(pool: ProvisioningSite, collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Control:
    return Control(tmp_path_factory.mktemp("control"), collections, environment_of(pool))


def test_passthrough(pool: ProvisioningSite, control: Control) -> None:
    pool.inventory()
    host = {"vcenter": "lab", "host": "esx-03.example.test"}
    script = control.script()
    script.settled("on", "passthrough", **host)
    script.refused("no such host", "passthrough", vcenter="lab", host="esx-99.example.test")
    script.refused("no such vCenter", "passthrough", vcenter="elsewhere", host="esx-03.example.test")
    script.foreseen("vCenter to come", "passthrough", vcenter="elsewhere", host="esx-03.example.test")
    script.task("runs", "run_info", kind="passthrough", wait=True, require_success=True)
    script.task("inventory", "pool_info", gather=["vcenters", "inventory"])
    played = script.play()

    on = played.settled("on")
    assert on["diff"]["after"] == {"Turn passthrough on": "done"}
    assert "was rebooted" in on["steps"][-1]["did"]
    assert "passthrough of esx-99.example.test: passthrough cannot be done: " in played.refusal("no such host")
    assert played.refusal("no such vCenter").endswith("there is no vCenter 'elsewhere'. There are: lab.")
    assert played["vCenter to come"]["changed"]
    assert [each["state"] for each in played["runs"]["runs"]] == ["succeeded"], "one run was started, for one change"
    hosts = {each["name"]: each for each in played["inventory"]["inventory"]["lab"]["hosts"]}
    assert [gpu["state"] for gpu in hosts["esx-03.example.test"]["gpus"]] == ["ready", "ready"]
