"""Deploying the GPU server daemon, on the software GPU, to a sandboxed guest; and both roles on one machine."""

from __future__ import annotations

from dataclasses import replace

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
