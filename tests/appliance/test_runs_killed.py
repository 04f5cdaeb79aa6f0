"""The appliance is killed with SIGKILL in every step of a provisioning run in turn; it ends as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from provisioned import GuestSite, guest_site, server_wanted
from provisioning_site import PATIENCE_S, until
from service_site import ENVIRONMENT
from sqlalchemy import select

from appliance.state.database import reading
from appliance.state.models import Run, RunStep

REBOOTS = "esx-03.example.test"
MOMENTS = ("begun", "midway", "done")
EVERY_MOMENT = bool(os.environ.get("GPUFERRY_EVERY_MOMENT"))
"""Killed at every moment of each step; else at one of each: midway where a step tells how far it is, and otherwise when
it has done its work and not written that down."""
DYING = Path(__file__).resolve().parent / "dying_appliance.py"


@pytest.fixture
def site(tmp_path: Path, new_database: Callable[[str], str]) -> Iterator[GuestSite]:
    with guest_site(tmp_path, new_database("sqlite")) as made:
        yield made


def outcome(site: GuestSite, run: Any) -> dict[str, Any]:
    """All that a run leaves, without names that are new each time."""
    until(lambda: site.host(REBOOTS)["tag"] == "gpu-server", "tags are looked at every other second")
    inventory = site.inventory()
    [server] = [each for each in site.get("/v1/servers")["items"] if each["name"] == run["subject"]]
    gpus = [each for each in site.get("/v1/gpus")["items"] if each["server_id"] == server["id"]]
    return {
        "run": run["state"],
        "steps": [step["state"] for step in run["steps"]],
        "server": (server["state"], server["has_rdma"], server["daemon_version"]),
        "gpus": sorted((gpu["name"], gpu["memory_mib"], gpu["state"], gpu["reserved_mib"]) for gpu in gpus),
        "vms": sorted((vm["name"], vm["power"], vm["role"], vm["memory_mib"]) for vm in inventory["vms"]),
        "cards": [(gpu["address"], gpu["state"], gpu["holder"]) for h in inventory["hosts"] for gpu in h["gpus"]],
        "maintenance": [host["maintenance"] for host in inventory["hosts"]],
        "tags": [host["tag"] for host in inventory["hosts"]],
        "accepted": any(each["passed"] for each in site.get(f"/v1/servers/{server['id']}/acceptance")["items"]),
    }


def attempts(site: GuestSite, run: str) -> list[int]:
    """How often each step was begun, read past the appliance."""
    with reading(site.engine) as session:
        query = select(RunStep.attempts).where(RunStep.run_id == run).order_by(RunStep.ordinal)
        return list(session.scalars(query))


@pytest.mark.timeout(1500)
def test_killed_in_every_step_it_ends_as_if_nothing_had_been(site: GuestSite) -> None:
    """The host needs a reboot, so that the run is killed around that, too."""
    card = next(gpu["address"] for gpu in site.host(REBOOTS)["gpus"] if gpu["state"] == "off")
    wanted = server_wanted(host=REBOOTS, gpus=[card], environment={"GPUFERRY_SOFTGPU_DEVICES": "1"})
    first = site.start("provision-server", **wanted)
    undisturbed = outcome(site, site.succeeded(first))
    down = site.start("decommission-server", vcenter="lab", name="gpu-server-1", deadline_s=0, passthrough_off=True)
    site.succeeded(down)

    moments = [
        f"{at} {moment}"
        for at, step in enumerate(site.run(first)["steps"])
        for moment in MOMENTS
        if (moment != "midway" or len(step["log"]) > 1)
        and (EVERY_MOMENT or moment == ("midway" if len(step["log"]) > 1 else "done"))
    ]
    left = site.output / "moments"
    left.write_text("\n".join(moments))
    site.kill("appliance")
    process = serve_dying(site, left)
    site.await_up(PATIENCE_S)
    run = site.start("provision-server", **wanted)
    steps = len(site.run(first)["steps"])
    assert {int(moment.split()[0]) for moment in moments} == set(range(steps)), "every step has its death"
    for at in range(len(moments)):
        assert process.wait(PATIENCE_S) == -signal.SIGKILL, (moments[at], site.log())
        assert left.read_text().splitlines() == moments[at + 1 :]
        process = serve_dying(site, left)
    site.await_up(PATIENCE_S)
    ended = site.succeeded(run)
    # A step that is found done after the kill was done by this run all the same.
    assert outcome(site, ended) == undisturbed
    assert all(count >= 2 for count in attempts(site, run)), "each was begun again"
    with reading(site.engine) as session:
        assert session.get_one(Run, run).term > len(moments), "it was taken up again after each kill"


def serve_dying(site: GuestSite, moments: Path) -> subprocess.Popen[str]:
    """The appliance, which kills itself at these moments."""
    command = [sys.executable, str(DYING), str(moments), "--data", str(site.folder)]
    with (site.output / "appliance.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True, env=ENVIRONMENT)
    site.processes["appliance"] = process
    return process
