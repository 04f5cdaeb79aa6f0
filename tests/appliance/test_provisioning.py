"""GPU servers and clients with real guests, over real SSH: from the bare host to a program that runs, and back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from provisioned import HOST, PACKAGES, PROGRAMS, GuestSite, guest_site, server_wanted
from provisioning_site import PATIENCE_S, until
from pyVmomi import vim
from service_site import LOST_AFTER_S

from appliance.deploy.building import build_bundle
from demo.data_centre import TELL_HOST_KEY
from vcenter.reading import load
from vcenter.vm_power import power_off

PROGRAM = PROGRAMS / "compare_with_numpy.py"


@pytest.fixture
def site(tmp_path: Path, new_database: Callable[[str], str]) -> Iterator[GuestSite]:
    with guest_site(tmp_path, new_database("sqlite")) as made:
        yield made


@pytest.mark.timeout(1200)
def test_from_bare_host_to_a_program_and_back(site: GuestSite) -> None:
    before = site.inventory()
    made = site.succeeded(site.start("provision-server", **server_wanted()))
    assert {step["state"] for step in made["steps"]} == {"done", "skipped"}
    assert set(made["parameters"]["ssh"]) == {"user", "port", "jump"}
    [server] = site.get("/v1/servers")["items"]
    assert (server["name"], server["state"], server["connected"]) == ("gpu-server-1", "active", True)
    [accepted] = site.get(f"/v1/servers/{server['id']}/acceptance")["items"]
    assert accepted["passed"]
    assert [gpu["error"] for gpu in accepted["result"]["gpus"]] == ["", ""]
    [key] = site.get("/v1/host-keys")["items"]
    assert (key["source"], key["confirmed_by"]) == ("the VM's own record in vCenter",) * 2
    until(lambda: site.host(HOST)["tag"] == "gpu-server", "vCenter shows the tag on the host")

    # Repeating it changes nothing.
    again = site.succeeded(site.start("provision-server", **server_wanted()))
    looked = {"choose-gpus", "await-address", "await-server"}
    assert {step["name"] for step in again["steps"] if step["state"] != "skipped"} == looked, again["steps"]
    dry = site.post("/v1/runs", {"kind": "provision-server", "parameters": server_wanted(), "dry_run": True})
    assert {step["state"] for step in dry["steps"]} == {"skipped"}, dry["steps"]

    # The host bears the tag, so what is changed by hand is put right.
    with site.lab() as session:
        vm = next(vm for vm in load(session).vms.values() if vm.name == "gpu-server-1")
        power_off(session, session.object(vim.VirtualMachine, vm.id), vm.name, shutdown_seconds=0)

    def repaired() -> bool:
        runs = site.get("/v1/runs?kind=provision-server")["items"]
        return runs[0]["actor"].startswith("the state that vCenter's tag wants") and runs[0]["state"] == "succeeded"

    until(repaired, "a run powers the server on again")
    told = {event["kind"] for event in site.get("/v1/events?subject=lab/gpu-server-1")["items"]}
    assert told == {"vcenter.drift"}

    # A client by its tag: nobody vouches for its host key, so an operator confirms it, and the run goes on.
    site.tag("client-01", "client", present=True)
    client = site.ended(site.by_tag("enable-client"))
    assert client["state"] == "failed"
    assert "nobody has confirmed the SSH host key" in client["error"]
    [waiting] = site.get("/v1/host-keys?confirmed=false")["items"]
    assert waiting["fingerprint"] in client["error"]
    site.post(f"/v1/host-keys/{waiting['id']}/confirm", {"fingerprint": "SHA256:something else"}, 409)
    site.post(f"/v1/host-keys/{waiting['id']}/confirm", {"fingerprint": waiting["fingerprint"]})
    client = site.succeeded(client["id"])
    [row] = site.get("/v1/clients")["items"]
    assert row["name"] == "client-01"

    address = waiting["target"].rpartition(":")[0]
    output = site.in_guest(address, f"PYTHONPATH={PACKAGES} gpuferry run -n 2 -m 1024 -- {sys.executable} {PROGRAM}")
    assert output.count("values equal NumPy's") == 2, output
    what_a_program_does_not_notice(site, address, row["id"])

    # Tags taken off are the way back.
    site.tag("client-01", "client", present=False)
    gone = site.succeeded(site.by_tag("disable-client"))
    assert [step["state"] for step in gone["steps"]] == ["done", "skipped", "done", "done", "done"]
    assert site.in_guest(address, "ls -d /opt/gpuferry 2>/dev/null || echo nothing").strip() == "nothing"
    site.post(f"/v1/runs/{gone['id']}/roll-back", status=409)

    # A dry run takes the word of a VM that says its key, as a run does, and notes nothing.
    with site.api as api:
        assert api.delete(f"/v1/host-keys/{waiting['id']}", headers={"If-Match": "*"}).status_code == 204
    wanted = {"kind": "enable-client", "parameters": {"vcenter": "lab", "vm": "client-01"}, "dry_run": True}
    assert "nobody has confirmed the SSH host key" in site.post("/v1/runs", wanted)["error"]
    site.in_guest(address, TELL_HOST_KEY)

    def foreseen() -> bool:
        return [each["state"] for each in site.post("/v1/runs", wanted)["steps"]][-1] == "pending"

    until(foreseen, "the dry run sees the whole way")
    assert [key["target"] for key in site.get("/v1/host-keys?confirmed=true")["items"]] == [key["target"]]

    site.tag(HOST, "gpu-server", present=False)
    down = site.succeeded(site.by_tag("decommission-server"))
    assert [step["state"] for step in down["steps"]] == ["done"] * 6, down["steps"]

    def as_before() -> bool:
        now = site.inventory()
        return [vm["name"] for vm in now["vms"]] == [vm["name"] for vm in before["vms"]] and (
            [host["gpus"] for host in now["hosts"]] == [host["gpus"] for host in before["hosts"]]
        )

    until(as_before, "the data centre is as it was before")
    until(lambda: site.host(HOST)["tag"] == "", "vCenter shows no tag on the host")
    [server] = site.get("/v1/servers")["items"]
    assert server["state"] == "revoked"


def what_a_program_does_not_notice(site: GuestSite, address: str, client: str) -> None:
    """The appliance away for longer than silence is allowed, a new key and a new version of the agent: its lease and
    its results stay as they are."""
    until(lambda: not site.active_leases(), "the pool is free")
    site.begin_steady(address)
    [lease] = site.active_leases()
    site.kill("appliance")
    time.sleep(LOST_AFTER_S + 2)
    site.in_guest(address, "grep -q working /run/steady.log && ! grep -q ended /run/steady.log")
    site.serve()
    site.await_up(PATIENCE_S)
    until(lambda: site.get("/v1/servers")["items"][0]["connected"], "the daemon has found the appliance again")
    state = "tr -d ' \\n' < /run/gpuferry/gpuferry-agent.json"
    until(lambda: '"state":"connected"' in site.in_guest(address, state), "so has the agent")
    assert site.active_leases() == [lease]

    site.post(f"/v1/clients/{client}/renew-key", status=202)
    until(lambda: site.get(f"/v1/events?kind=client.key-renewed&subject={client}")["items"], "the agent has a new key")
    newer = build_bundle(site.folder, installed=True, version="9.9.9")
    ordered = site.succeeded(site.start("upgrade-clients", by="order", deadline_s=1))
    assert [(step["name"], step["state"]) for step in ordered["steps"]] == [
        ("await-idle-clients", "done"),
        ("order-clients", "done"),
    ]
    assert "which go on over the upgrade" in ordered["steps"][0]["found"]
    assert site.get(f"/v1/clients/{client}")["agent_version"] == newer.version
    assert site.succeeded(site.start("upgrade-clients"))["steps"][0]["state"] == "skipped"
    assert site.active_leases() == [lease]
    assert site.end_steady(address) > 1
    until(lambda: not site.active_leases(), "its lease is given back")
