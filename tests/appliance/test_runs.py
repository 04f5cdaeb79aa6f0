"""Runs end to end over the REST API: passthrough on a simulated vCenter, dry run, cancel, retry, roll-back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from provisioning_site import PATIENCE_S, ProvisioningSite, provisioning_site, until

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


def vm_names(site: ProvisioningSite) -> set[str]:
    return {vm["name"] for vm in site.inventory()["vms"]}


def test_a_running_run_is_cancelled_and_taken_back(site: ProvisioningSite) -> None:
    site.simulation.control.delay("CloneVM_Task", 3.0)
    wanted = {"vcenter": "lab", "host": AT_ONCE, "name": "gpu-server-9", "gpu_count": 2, "network": "dv-management"}
    run = site.start("provision-server", **wanted, source={"template": "gpuferry-template"})
    until(lambda: states(site.run(run))[2] == "running", "the virtual machine is being made")
    assert site.post(f"/v1/runs/{run}/cancel")["state"] == "cancelling"
    cancelled = site.ended(run)
    assert cancelled["state"] == "cancelled", cancelled
    assert states(cancelled)[3:] == ["pending"] * 6
    assert gpu_states(site, AT_ONCE) == {"ready"}, "what it did stays until it is rolled back"
    site.post(f"/v1/runs/{run}/roll-back")
    back = site.ended(run)
    assert (back["state"], back["error"]) == ("rolled-back", "")
    assert states(back)[1] == "undone"
    until(lambda: gpu_states(site, AT_ONCE) == {"off"}, "passthrough is off again")
    until(lambda: "gpu-server-9" not in vm_names(site), "no half-made machine is left")


def test_one_host_at_a_time_and_so_many_of_a_vcenter(tmp_path: Path, new_database: Callable[[str], str]) -> None:
    """Runs of one host wait for each other; with a limit of one for the vCenter, all do. One is cancelled."""
    with provisioning_site(tmp_path, new_database("sqlite")) as site:
        with site.api as api:
            changed = api.patch("/v1/settings", json={"runs_per_vcenter": 1}, headers={"If-Match": "*"})
        assert changed.status_code == 200, changed.text
        site.processes["appliance"].terminate()
        site.processes["appliance"].wait(60)
        site.serve()
        site.await_up(PATIENCE_S)
        site.simulation.control.delay("UpdatePassthruConfig", 1.0)
        runs = [
            site.start("passthrough", vcenter="lab", host=host, on=on)
            for on in (True, False)
            for host in (AT_ONCE, NEEDS_REBOOT)
        ]
        waiting = site.start("passthrough", vcenter="lab", host=AT_ONCE, on=True)
        assert site.post(f"/v1/runs/{waiting}/cancel")["state"] == "cancelled"
        ended = [site.succeeded(run) for run in runs]
        # The clock of these is one process's own: none began before the one before it had ended.
        spans = sorted((run["started_at"], run["ended_at"]) for run in ended)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans)), spans
        assert states(site.run(waiting)) == ["pending", "pending"]
        assert gpu_states(site, AT_ONCE) == {"off"}


def test_another_process_takes_the_run_of_a_killed_one_over(tmp_path: Path, new_database: Callable[[str], str]) -> None:
    """Two appliance processes on one PostgreSQL: the one that carries a run out is killed in the middle of it."""
    with provisioning_site(tmp_path, new_database("postgresql"), pace=0.3) as site:
        second = ProvisioningSite.beside(site, tmp_path / "second")
        try:
            run = site.start("passthrough", vcenter="lab", host=NEEDS_REBOOT, on=True)
            until(lambda: states(site.run(run))[1] == "running", "the host is on its way")
            second.serve("second")
            second.vcenter = site.vcenter
            site.kill("appliance")
            until(second.answers, "the second process answers")
            ended = second.succeeded(run)
            assert states(ended) == ["done", "done"]
            assert ended["steps"][1]["attempts"] >= 2
            until(lambda: gpu_states(second, NEEDS_REBOOT) == {"ready"}, "both GPUs are ready")
            assert second.host(NEEDS_REBOOT)["maintenance"] is False
        finally:
            second.close()
