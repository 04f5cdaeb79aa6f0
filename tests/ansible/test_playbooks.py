"""The collection's playbooks on a simulated vCenter with real sandboxed guests: from nothing to a program, and back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playing import Control, Played, environment_of
from provisioned import HOST, PACKAGES, PROGRAMS, SOFTWARE, GuestSite, guest_site


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestSite]:
    folder = tmp_path_factory.mktemp("pool")
    with guest_site(folder, f"sqlite:///{folder}/appliance.db") as made:
        yield made


@pytest.fixture(scope="module")
def control(pool: GuestSite, collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Control:
    control = Control(tmp_path_factory.mktemp("control"), collections, environment_of(pool))
    simulation = pool.simulation
    told = {
        "pool_vcenter": {
            "name": "site-a",
            "address": f"{simulation.host}:{simulation.port}",
            "username": simulation.user,
            "password": simulation.password,
            "fingerprint": simulation.thumbprint,
        },
        "pool_ssh": {"key": pool.key.read_text()},
        "pool_groups": [{"name": "research", "max_gpus": 2}],
        "pool_servers": [
            {
                "name": "gpu-server-1",
                "host": HOST,
                "gpu_count": 2,
                "source": {"template": "gpuferry-template"},
                "network": "dv-management",
                "driver": "softgpu",
                "environment": SOFTWARE,
                "python_path": [str(PACKAGES)],
            }
        ],
        "pool_clients": [{"name": "client-01", "group": "research", "max_gpus": 2}],
        "pool_client_host_key": "accept-new",
    }
    (control.folder / "pool.yml").write_text(yaml.safe_dump(told))
    return control


def changes(played: Played) -> list[tuple[str, list[bool]]]:
    """What changed, item by item."""
    found = []
    for each in played.tasks:
        items = each.result.get("results", [each.result])
        found.append((each.name, [bool(item.get("changed")) for item in items]))
    return [(name, items) for name, items in found if any(items)]


@pytest.mark.timeout(1800)
def test_from_nothing_to_a_program_and_back(pool: GuestSite, control: Control) -> None:
    with pool.api as api:  # the fixture's own vCenter: the playbook brings one
        assert api.delete(f"/v1/vcenters/{pool.vcenter}", headers={"If-Match": "*"}).status_code == 204
    play = ("gpuferry.pool.stand_up", "-e", "@pool.yml")

    foreseen = control.play(*play, "--check")
    stood = control.play(*play, "--diff")
    assert changes(foreseen) == changes(stood)
    assert [name for name, _ in changes(stood)] == [
        "The vCenter",
        "Groups",
        "GPU servers",
        "Begin with every client",
        "Quotas of the clients",
    ]
    assert pool.simulation.password not in stood.output
    again = control.play(*play)
    assert changes(again) == [], again.output
    assert "changed=0" in again.output

    [vcenter] = pool.get("/v1/vcenters")["items"]
    vms = {each["name"]: each for each in pool.get(f"/v1/vcenters/{vcenter['id']}/inventory")["vms"]}
    program = f"PYTHONPATH={PACKAGES} gpuferry run -n 2 -m 1024 -- {sys.executable} {PROGRAMS}/compare_with_numpy.py"
    output = pool.in_guest(vms["client-01"]["address"], program)
    assert output.count("values equal NumPy's") == 2, output

    more = control.play("gpuferry.pool.add_clients", "-e", "pool_vcenter_name=site-a pool_client_pattern=client-0[1-9]")
    assert [each for each in more.tasks if each.changed] == [], "client-01 is one, client-02 is off"
    upgraded = control.play("gpuferry.pool.rolling_upgrade", "-e", "pool_deadline_s=0")
    assert changes(upgraded) == [], "all are of this version"

    leave = ("gpuferry.pool.decommission", "-e", "pool_vcenter_name=site-a pool_deadline_s=0", "-e")
    gone = control.play(*leave, '{"pool_decommission": ["gpu-server-1"]}')
    assert changes(gone) == [("Drain, stop, give the GPUs back, delete the VM", [True])]
    assert changes(control.play(*leave, '{"pool_decommission": ["gpu-server-1"]}')) == []
    with pool.api as api:
        assert [each["state"] for each in api.get("/v1/servers").json()["items"]] == ["revoked"]
