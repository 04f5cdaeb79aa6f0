"""Deploying the GPU server daemon, on the software GPU, to a sandboxed guest; and both roles on one machine."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from altered_bundle import altered
from deploy_site import DeploySite, Guest

from appliance.deploy.deployment import deploy, inspect, run_installed, uninstall


def test_a_gpu_server(deploy_site: DeploySite, guest: Guest) -> None:
    before = guest.files()
    settings = replace(
        deploy_site.settings,
        name="gpu-server-1",
        esxi_host="esx-01.example.test",
        driver="softgpu",
        address=f"{guest.address}:9797",
        environment={"GPUFERRY_SOFTGPU_DEVICES": "2"},
    )
    deployed = deploy(guest.target, deploy_site.bundle, "server", settings, deploy_site.ticket("server"))
    assert (deployed.changed, deployed.services) == (True, ("gpuferry-gpuserver",))
    with deploy_site.site.api as api:
        shown = api.get(f"/v1/servers/{deployed.peer}").json()
    assert (shown["name"], shown["address"], shown["daemon_version"]) == (
        "gpu-server-1",
        f"{guest.address}:9797",
        deployed.version,
    )
    assert shown["host"] == "esx-01.example.test"
    assert deploy(guest.target, deploy_site.bundle, "server", settings) == replace(deployed, changed=False)
    # What is installed can be used there, with what the configuration adds for Python.
    listed = run_installed(guest.target, "server", ["python", "-c", "import zmq, pynvml; print(zmq.__file__)"])
    assert listed.output.startswith("/opt/gpuferry/server/versions/")

    # A client on the same machine has a key and a life of its own.
    client = deploy(
        guest.target, deploy_site.bundle, "client", deploy_site.settings, deploy_site.ticket(name="on-a-server")
    )
    assert client.peer != deployed.peer
    assert "gpu-server-1" in guest.run("gpuferry list servers").output
    assert guest.run("readlink /usr/local/bin/gpuferry").output.strip() == "/opt/gpuferry/client/current/bin/gpuferry"
    assert uninstall(guest.target, "client")
    there = inspect(guest.target, "server")
    assert there is not None
    assert (there.running, there.state, there.peer) == (True, "connected", deployed.peer)
    assert guest.run("readlink /usr/local/bin/gpuferry").output.strip() == "/opt/gpuferry/server/current/bin/gpuferry"
    assert uninstall(guest.target, "server")
    assert guest.files() == before
    assert guest.run("getent passwd gpuferry || echo none").output.strip() == "none"


def events(site: DeploySite, peer: str, count: int) -> list[str]:
    """The texts of a server's upgrade events, oldest first, once there are so many."""
    deadline = time.monotonic() + 120
    while True:
        with site.site.api as api:
            answer = api.get("/v1/events", params={"kind": "server.upgrade", "subject": peer, "limit": 100})
        texts = [str(each["text"]) for each in answer.json()["items"] if each["subject"] == peer]
        if len(texts) >= count:
            return sorted(texts)
        assert time.monotonic() < deadline, texts
        time.sleep(0.2)


def test_upgrades_that_the_appliance_orders(deploy_site: DeploySite, guest: Guest) -> None:
    site = deploy_site.site
    settings = replace(deploy_site.settings, driver="softgpu", address=f"{guest.address}:9797")
    first = deploy(guest.target, deploy_site.bundle, "server", settings, deploy_site.ticket("server"))
    offered = altered(deploy_site.bundle, site.folder, "0.8.1", "server", {}, "bundles")
    # It is offered, and still not the newest of the site.
    os.utime(offered.path, (0, 0))
    # Another site's bundle under a version's name: its signature is not this appliance's, nobody gets to see it.
    with site.api as api:
        assert api.get("/v1/bundles/0.8.1/manifest.json").json()["version"] == "0.8.1"
        assert api.get("/v1/bundles/0.8.2/manifest.json").status_code == 404
        assert api.get("/v1/bundles/0.8.1/nothing").status_code == 404
        for version in ("0.8.2", "0.8.1"):
            assert api.post(f"/v1/servers/{first.peer}/upgrade", json={"version": version}).status_code == 202
            events(deploy_site, first.peer, 2 if version == "0.8.2" else 4)
        # The key of a daemon that the appliance has configured is renewed without it.
        assert api.post(f"/v1/servers/{first.peer}/renew-key").status_code == 202
    deadline = time.monotonic() + 120
    while not guest.run("ls /var/lib/gpuferry/server").output.count("identity.renewed-key.json"):
        assert time.monotonic() < deadline, "no new key"
        time.sleep(0.2)
    texts = events(deploy_site, first.peer, 4)
    assert any("0.8.2" in each and "cannot be fetched" in each for each in texts), texts
    assert any("version 0.8.1 is installed" in each for each in texts), texts
    there = inspect(guest.target, "server")
    assert there is not None
    assert (there.version, there.running, there.state, there.peer) == ("0.8.1", True, "connected", first.peer)
    assert guest.run("ls -A /opt/gpuferry/server").output.split() == [".lock", "current", "versions"]
    assert "driver softgpu" in guest.run("cat /etc/gpuferry/server.json | tr -d '\",\\n' | tr -s ' '").output
