"""The appliance of the demo: started, given the vCenter, and then driven as an operator, and as vCenter, drives it."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from appliance.deploy.building import build_bundle
from demo.data_centre import PACKAGES
from demo.services import start_service
from demo.steps import Demo, StepFailedError, expect

FIRST, BY_TAG, CLIENT = "esx-01.example.test", "esx-03.example.test", "client-01"
PATIENCE_S = 240.0
SERVER = {
    "gpu_count": 2,
    "source": {"template": "gpuferry-template"},
    "network": "dv-management",
    "driver": "softgpu",
    "environment": {"GPUFERRY_SOFTGPU_DEVICES": "2", "GPUFERRY_SOFTGPU_MEMORY_MIB": "2048"},
    "python_path": [str(PACKAGES)],
}


def free_ports(address: str, count: int) -> list[int]:
    held = [socket.create_server((address, 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


def start_appliance(demo: Demo) -> str:
    """At an address that guests reach; the bundle is made of what this Python has, so nothing is fetched."""
    site, gateway = demo.work / "site", demo.vcenter["gateway"]
    control, enrol, api = free_ports(gateway, 3)
    made = demo.gpuferry(
        *("appliance", "init", "--data", str(site), "--name", gateway, "--listen", gateway),
        *("--control-port", str(control), "--enrol-port", str(enrol), "--api-port", str(api)),
    )
    demo.url, demo.token = f"https://{gateway}:{api}", made.strip().splitlines()[-1]
    token_file = demo.work / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(demo.token + "\n")
    start_service(demo, "appliance", "serve", "--data", str(site), says=False)
    demo.api = httpx.Client(
        base_url=demo.url,
        headers={"Authorization": f"Bearer {demo.token}"},
        verify=ssl.create_default_context(cafile=site / "ca.pem"),
        timeout=60,
    )
    build_bundle(site, installed=True)
    wait_for(lambda: deciding(demo), "the appliance decides")
    return f"REST API at {demo.url}, bundle signed"


def deciding(demo: Demo) -> bool:
    try:
        return bool(demo.api.get("/v1/appliance").json().get("deciding"))
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives as soon as it is true. Raises StepFailedError."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise StepFailedError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.2)


def answer(response: httpx.Response) -> Any:
    if response.status_code >= 400:
        raise StepFailedError(f"{response.request.method} {response.request.url.path}: {response.text}")
    return response.json()


def add_vcenter(demo: Demo) -> str:
    """By the API, its certificate pinned; then what the appliance needs to log in to guests and to fulfil tags."""
    wanted = {
        "name": "demo",
        "address": urlsplit(demo.vcenter["url"]).netloc,
        "username": demo.vcenter["user"],
        "password": demo.vcenter["password"],
        "fingerprint": demo.vcenter["thumbprint"],
    }
    demo.vcenter_id = answer(demo.api.post("/v1/vcenters", json=wanted))["id"]
    settings = {"ssh_key": (demo.work / "ssh_key").read_text(), "ssh_user": "gpuferry", "server_defaults": SERVER}
    answer(demo.api.patch("/v1/settings", json=settings, headers={"If-Match": "*"}))

    def inventory() -> Any:
        got = demo.api.get(f"/v1/vcenters/{demo.vcenter_id}/inventory")
        return got.json() if got.status_code == 200 else None

    seen = wait_for(inventory, "an inventory of the vCenter")
    gpus = [gpu for host in seen["hosts"] for gpu in host["gpus"]]
    expect(len(seen["hosts"]) == 3 and len(gpus) == 6, f"expected 6 GPUs in 3 hosts, got {seen['hosts']}")
    return f"{len(gpus)} GPUs in {len(seen['hosts'])} hosts"


def set_tag(demo: Demo, thing: str, tag: str) -> None:
    """As a vSphere administrator does it in vCenter."""
    demo.console.print(f"    [dim]vCenter: tag {tag} on {thing}[/dim]")
    answer(demo.api.put(f"/v1/vcenters/{demo.vcenter_id}/tags", json={"object": thing, "tag": tag, "present": True}))


def ended(demo: Demo, run: str) -> Any:
    """The run when it is over, its steps shown as they end."""
    shown: set[int] = set()

    def over() -> Any:
        now = answer(demo.api.get(f"/v1/runs/{run}"))
        for step in now["steps"]:
            if step["state"] in ("done", "skipped", "failed") and step["ordinal"] not in shown:
                shown.add(step["ordinal"])
                said = (step["did"] or step["found"])[:90]
                demo.console.print(f"      {now['subject']}: {step['title']}: {said}", style="dim", markup=False)
        return now if now["state"] in ("succeeded", "failed", "cancelled", "rolled-back") else None

    found = wait_for(over, f"{run} is over")
    expect(found["state"] == "succeeded", f"{found['kind']} of {found['subject']}: {found['error']} {found['remedy']}")
    demo.note_run(found)
    return found


def run_by_tag(demo: Demo, kind: str, subject: str) -> str:
    """The run that a tag has started."""

    def started() -> Any:
        return answer(demo.api.get("/v1/runs", params={"kind": kind, "subject": subject}))["items"]

    return str(wait_for(started, f"vCenter's tag starts {kind} of {subject}")[0]["id"])


def provision_servers(demo: Demo) -> str:
    """Both at once: one by `gpuferry runs start`, the other by a tag on a host that has to reboot for passthrough."""
    (demo.work / "server.json").write_text(
        json.dumps({"vcenter": "demo", "host": FIRST, "name": "gpu-server-1", **SERVER})
    )
    asked = json.loads(
        demo.gpuferry(
            *("runs", "start", "provision-server", "--file", str(demo.work / "server.json"), "--no-watch", "--json"),
            *("--url", demo.url, "--token", demo.token, "--ca", str(demo.work / "site" / "ca.pem")),
            secret=demo.token,
        )
    )
    set_tag(demo, BY_TAG, "gpu-server")
    runs = [ended(demo, asked["id"]), ended(demo, run_by_tag(demo, "provision-server", "esx-03"))]
    rebooted = [step["did"] for run in runs for step in run["steps"] if "was rebooted" in step["did"]]
    expect(len(rebooted) == 1, f"one host should have been rebooted: {rebooted}")
    servers = answer(demo.api.get("/v1/servers"))["items"]
    expect(
        len(servers) == 2 and all(each["state"] == "active" and each["connected"] for each in servers),
        f"expected two servers in the pool, got {servers}",
    )
    return f"{', '.join(each['name'] for each in servers)} passed acceptance and are in the pool; one host was rebooted"


def enable_client(demo: Demo) -> str:
    set_tag(demo, CLIENT, "client")
    run = ended(demo, run_by_tag(demo, "enable-client", CLIENT))
    [machine] = [
        vm for vm in answer(demo.api.get(f"/v1/vcenters/{demo.vcenter_id}/inventory"))["vms"] if vm["name"] == CLIENT
    ]
    demo.client = machine["address"]
    deployed = next(step["did"] for step in run["steps"] if step["name"] == "deploy-client")
    return f"{CLIENT} at {demo.client}: {deployed}"
