"""Runs end to end over the REST API: passthrough on a simulated vCenter, dry run, cancel, retry, roll-back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from provisioning_site import ProvisioningSite, provisioning_site, until

NEEDS_REBOOT = "esx-03.example.test"
AT_ONCE = "esx-02.example.test"


@pytest.fixture
def site(tmp_path: Path, new_database: Callable[[str], str]) -> Iterator[ProvisioningSite]:
    with provisioning_site(tmp_path, new_database("sqlite")) as made:
        yield made


def states(run: Any) -> list[str]:
    return [step["state"] for step in run["steps"]]


def gpu_states(site: ProvisioningSite, host: str) -> set[str]:
    return {gpu["state"] for gpu in site.host(host)["gpus"]}


def test_passthrough_on_a_host_that_must_reboot_and_back(site: ProvisioningSite) -> None:
    before = [gpu["state"] for gpu in site.host(NEEDS_REBOOT)["gpus"]]
    dry = site.post(
        "/v1/runs",
        {"kind": "passthrough", "parameters": {"vcenter": "lab", "host": NEEDS_REBOOT, "on": True}, "dry_run": True},
    )
    assert states(dry) == ["skipped", "pending"]
    assert "reboot" in dry["steps"][1]["did"]
    assert site.get("/v1/runs")["items"] == []

    run = site.succeeded(site.start("passthrough", vcenter="lab", host=NEEDS_REBOOT, on=True))
    assert run["subject"] == NEEDS_REBOOT
    assert states(run) == ["done", "done"]
    assert "was rebooted" in run["steps"][1]["did"]
    assert run["steps"][1]["log"]
    until(lambda: gpu_states(site, NEEDS_REBOOT) == {"ready"}, "the inventory shows both GPUs ready")
    assert site.host(NEEDS_REBOOT)["maintenance"] is False

    again = site.succeeded(site.start("passthrough", vcenter="lab", host=NEEDS_REBOOT, on=True))
    assert states(again) == ["done", "skipped"]
    kept = site.post(f"/v1/runs/{again['id']}/roll-back")
    assert kept["state"] == "rolling-back"
    assert site.ended(again["id"])["state"] == "rolled-back"
    assert gpu_states(site, NEEDS_REBOOT) == {"ready"}, "a run that changed nothing takes nothing back"

    site.post(f"/v1/runs/{run['id']}/roll-back")
    back = site.ended(run["id"])
    assert (back["state"], states(back)) == ("rolled-back", ["done", "undone"]), back
    until(lambda: [gpu["state"] for gpu in site.host(NEEDS_REBOOT)["gpus"]] != ["ready", "ready"], "it is taken back")
    # One of the two was on already, waiting for a reboot that has happened meanwhile.
    assert [gpu["state"] for gpu in site.host(NEEDS_REBOOT)["gpus"]] == ["ready", "off"], before

    kinds = {event["kind"] for event in site.get(f"/v1/events?subject={run['id']}")["items"]}
    assert {"run.queued", "run.started", "run.step", "run.succeeded", "run.rolling-back", "run.rolled-back"} <= kinds


def test_a_failed_run_says_why_and_can_be_retried(site: ProvisioningSite) -> None:
    site.simulation.control.fail("UpdatePassthruConfig")
    run = site.ended(site.start("passthrough", vcenter="lab", host=AT_ONCE))
    assert (run["state"], states(run)) == ("failed", ["done", "failed"])
    assert run["error"].startswith("Turn passthrough on: ")
    assert run["remedy"]
    site.post(f"/v1/runs/{run['id']}/retry")
    again = site.succeeded(run["id"])
    assert (again["error"], states(again)) == ("", ["done", "done"])
    assert again["steps"][1]["attempts"] == 2
    until(lambda: gpu_states(site, AT_ONCE) == {"ready"}, "both GPUs are ready")


def test_what_is_asked_wrongly_is_refused(site: ProvisioningSite) -> None:
    for parameters, why in (
        ({"vcenter": "nowhere", "host": AT_ONCE}, "there is no vCenter"),
        ({"vcenter": "lab"}, "parameters.host"),
        ({"vcenter": "lab", "host": AT_ONCE, "colour": 1}, "parameters.colour"),
    ):
        answer = site.post("/v1/runs", {"kind": "passthrough", "parameters": parameters}, 422)
        assert why in answer["detail"]
    assert "there are" in site.post("/v1/runs", {"kind": "paint", "parameters": {}}, 422)["detail"]
    run = site.ended(site.start("passthrough", vcenter="lab", host="esx-99"))
    assert (run["state"], states(run)) == ("failed", ["failed", "pending"])
    assert "esx-99" in run["error"]
    site.post(f"/v1/runs/{run['id']}/cancel", status=409)
    site.post("/v1/runs/run-none/retry", status=404)
