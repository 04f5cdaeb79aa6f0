"""What is done to a GPU server that exists: tested again, upgraded, given a PVRDMA adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from provisioned import guest_site, server_wanted

from appliance.deploy.building import build_bundle


@pytest.mark.timeout(1200)
def test_accepted_again_upgraded_and_given_an_adapter(tmp_path: Path, new_database: Callable[[str], str]) -> None:
    with guest_site(tmp_path, new_database("sqlite")) as site:
        site.succeeded(site.start("provision-server", **server_wanted()))
        [server] = site.get("/v1/servers")["items"]

        tested = site.succeeded(site.start("accept-server", server="gpu-server-1"))
        assert [step["state"] for step in tested["steps"]] == ["done", "done"]
        results = site.get(f"/v1/servers/{server['id']}/acceptance")["items"]
        assert [(each["passed"], each["run_id"] == tested["id"]) for each in results] == [(True, True), (True, False)]

        same = site.succeeded(site.start("upgrade-servers"))
        assert same["steps"][1]["state"] == "skipped"
        newer = build_bundle(site.folder, installed=True, version="9.9.9")
        upgraded = site.succeeded(site.start("upgrade-servers", servers=["gpu-server-1"], deadline_s=0))
        assert [step["name"] for step in upgraded["steps"]] == ["drain-batch", "upgrade-batch", "resume-batch"]
        assert [step["state"] for step in upgraded["steps"]] == ["done"] * 3
        assert newer.version in upgraded["steps"][1]["did"]
        [server] = site.get("/v1/servers")["items"]
        assert server["state"] == "active"
        newest = build_bundle(site.folder, installed=True, version="9.9.10")
        ordered = site.succeeded(site.start("upgrade-servers", by="order", deadline_s=0))
        assert [step["state"] for step in ordered["steps"]] == ["done"] * 3
        [server] = site.get("/v1/servers")["items"]
        assert (server["state"], server["daemon_version"]) == ("active", newest.version)
        nobody = {"kind": "upgrade-servers", "parameters": {"servers": ["gpu-server-7"]}}
        assert "gpu-server-7" in site.post("/v1/runs", nobody, 422)["detail"]

        wanted = {"vcenter": "lab", "name": "gpu-server-1", "network": "dv-pvrdma", "deadline_s": 0}
        attached = site.succeeded(site.start("attach-pvrdma", **wanted))
        assert [step["state"] for step in attached["steps"]] == ["done"] * 8, attached["steps"]
        [server] = site.get("/v1/servers")["items"]
        assert (server["state"], server["connected"]) == ("active", True)
        again = site.succeeded(site.start("attach-pvrdma", **wanted))
        assert {step["name"] for step in again["steps"] if step["state"] == "done"} == {
            "find-server",
            "await-address",
            "await-server",
        }
