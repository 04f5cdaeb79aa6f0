"""Passthrough, GPU servers and clients through runs, each foreseen, done and repeated, with real sandboxed guests.

Takes about five minutes, so it is not in `make test`, which has the playbooks (tests/ansible):

    pytest tests/long/ansible/provisioning_modules.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "ansible"))

from conftest import collections, tarball  # noqa: F401 - fixtures
from playing import Control, environment_of
from provisioned import HOST, PACKAGES, PROGRAMS, SOFTWARE, GuestSite, guest_site


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestSite]:
    folder = tmp_path_factory.mktemp("pool")
    with guest_site(folder, f"sqlite:///{folder}/appliance.db") as made:
        yield made


@pytest.fixture(scope="module")
def control(
    pool: GuestSite,
    collections: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Control:
    return Control(tmp_path_factory.mktemp("control"), collections, environment_of(pool))


SERVER = {
    "name": "gpu-server-1",
    "vcenter": "lab",
    "host": HOST,
    "gpu_count": 2,
    "source": {"template": "gpuferry-template"},
    "network": "dv-management",
    "driver": "softgpu",
    "environment": SOFTWARE,
    "python_path": [str(PACKAGES)],
}
CLIENT = {"name": "client-01", "vcenter": "lab", "vm": "client-01"}


def test_from_bare_host_to_a_program_and_back(pool: GuestSite, control: Control) -> None:
    script = control.script()
    script.settled("server", "gpu_server", **SERVER)
    script.refused("unknown key", "client", **CLIENT)
    script.refused("another key", "client", **CLIENT, host_key="SHA256:something-else")
    script.settled("client", "client", **CLIENT, max_gpus=2, host_key="accept-new")
    played = script.play()
    assert [each["name"] for each in played.settled("server")["steps"] if each["did"]] == [
        "create-vm",
        "power-on",
        "deploy-server",
        "accept",
        "join-pool",
    ]
    assert played["server"]["server"]["state"] == "active"
    assert "nobody has confirmed the SSH host key" in played.refusal("unknown key")
    assert "Compare it with the machine's own before you give it as `host_key`" in played.refusal("another key")
    assert played.settled("client")["client"]["max_gpus"] == 2

    vms = {each["name"]: each for each in pool.inventory()["vms"]}
    program = f"PYTHONPATH={PACKAGES} gpuferry run -n 2 -m 1024 -- {sys.executable} {PROGRAMS}/compare_with_numpy.py"
    output = pool.in_guest(vms["client-01"]["address"], program)
    assert output.count("values equal NumPy's") == 2, output

    script = control.script()
    script.settled("off", "client", **CLIENT, state="absent")
    script.settled("back", "gpu_server", name="gpu-server-1", vcenter="lab", state="absent", deadline_s=0)
    script.refused("no such host", "passthrough", vcenter="lab", host="esx-99.example.test")
    script.refused("no such vCenter", "passthrough", vcenter="elsewhere", host=HOST)
    script.settled("reboot", "passthrough", vcenter="lab", host="esx-03.example.test")
    script.task("runs", "run_info", states=["succeeded"])
    played = script.play()
    assert played.settled("off")["changed"]
    assert played.settled("back")["changed"]
    assert "passthrough of esx-99.example.test: passthrough cannot be done: " in played.refusal("no such host")
    assert played.refusal("no such vCenter").endswith("there is no vCenter 'elsewhere'. There are: lab.")
    assert played.settled("reboot")["changed"]
    kinds = [each["kind"] for each in played["runs"]["runs"]]
    wanted = ["passthrough", "decommission-server", "disable-client", "enable-client", "provision-server"]
    assert kinds == wanted, "a run was started where nothing was missing"
