"""The inventory plug-in over a real appliance: hosts, groups, composed variables, the cache, errors."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from playing import Control
from service_site import ServiceSite


@pytest.fixture(scope="module")
def filled(site: ServiceSite) -> ServiceSite:
    site.daemon("s0", 2)
    site.enrol("client", "ada")
    site.enrol("client", "grace")
    end = time.monotonic() + 60
    with site.api as api:
        while [each["connected"] for each in api.get("/v1/servers").json()["items"]] != [True]:
            assert time.monotonic() < end
            time.sleep(0.05)
    return site


def read(output: str) -> dict[str, Any]:
    """What ansible-inventory lists; ansible-core 2.19 wraps texts that are no templates."""
    told: dict[str, Any] = json.loads(output, object_hook=lambda each: each.get("__ansible_unsafe", each))
    return told


def listed(control: Control, **options: Any) -> dict[str, Any]:
    (control.folder / "lab.pool.yml").write_text(yaml.safe_dump({"plugin": "gpuferry.pool.pool", **options}))
    return read(control.run("ansible-inventory", "-i", "lab.pool.yml", "--list").stdout)


def test_hosts_groups_and_the_cache(control: Control, filled: ServiceSite) -> None:
    told = listed(
        control,
        keyed_groups=[{"key": "gpuferry_driver_version", "prefix": "driver"}],
        compose={"memory_mib": "gpuferry_gpus | map(attribute='memory_mib') | sum"},
        groups={"big": "gpuferry_role == 'server' and gpuferry_gpus | length > 1"},
        cache=True,
        cache_plugin="ansible.builtin.jsonfile",
        cache_connection=str(control.folder / "cache"),
    )
    members = {name: group["hosts"] for name, group in told.items() if "hosts" in group}
    assert members["gpu_servers"] == ["s0"]
    assert sorted(members["clients"]) == ["ada", "grace"]
    assert members["model_software_a100"] == ["s0"]
    assert sorted(members["group_default"]) == ["ada", "grace"]
    assert members["driver_580_65"] == ["s0"]
    assert members["big"] == ["s0"]
    assert any(name.startswith("health_") and "s0" in hosts for name, hosts in members.items())
    facts = told["_meta"]["hostvars"]["s0"]
    assert (facts["ansible_host"], int(facts["memory_mib"]), facts["gpuferry_state"]) == ("s0", 32768, "active")
    assert "GPUFERRY" not in json.dumps(told)
    assert filled.admin_token not in json.dumps(told)

    # A second reading comes from the cache: the appliance need not answer, and what is new is not seen.
    filled.enrol("client", "late")
    cached = control.run("ansible-inventory", "-i", "lab.pool.yml", "--list")
    assert read(cached.stdout) == told
    # Up to 2.17 only ansible-playbook knows --flush-cache.
    (control.folder / "clients.yml").write_text(yaml.safe_dump([{"hosts": "clients", "gather_facts": False}]))
    fresh = control.run("ansible-playbook", "-i", "lab.pool.yml", "clients.yml", "--list-hosts", "--flush-cache")
    assert "late" in fresh.stdout.split()


def test_only_servers_and_an_appliance_that_is_away(control: Control, filled: ServiceSite) -> None:
    told = listed(control, include=["servers"], group_by=["state"])
    assert [name for name in told if name not in ("_meta", "all")] == ["gpu_servers", "state_active"]
    away = {"plugin": "gpuferry.pool.pool", "appliance_url": "https://127.0.0.1:1"}
    (control.folder / "away.gpuferry.yml").write_text(yaml.safe_dump(away))
    failed = control.run("ansible-inventory", "-i", "away.gpuferry.yml", "--list")
    said = " ".join(failed.stderr.split())
    assert "The inventory of the pool cannot be read. The appliance at https://127.0.0.1:1 does not" in said
