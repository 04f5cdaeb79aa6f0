"""Passthrough, GPU servers and clients through runs, on a simulated vCenter whose machines are real sandboxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import environment_of
from playing import Control
from provisioned import PACKAGES, SOFTWARE, guest_site
from provisioning_site import ProvisioningSite


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProvisioningSite]:
    folder = tmp_path_factory.mktemp("pool")
    with guest_site(folder, f"sqlite:///{folder}/appliance.db") as made:
        yield made


@pytest.fixture(scope="module")
def control(pool: ProvisioningSite, collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Control:
    return Control(tmp_path_factory.mktemp("control"), collections, environment_of(pool))


SERVER = {
    "name": "gpu-server-1",
    "vcenter": "lab",
    "host": "esx-01.example.test",
    "gpu_count": 2,
    "source": {"template": "gpuferry-template"},
    "network": "dv-management",
    "driver": "softgpu",
    "environment": SOFTWARE,
    "python_path": [str(PACKAGES)],
}


def test_from_bare_host_to_clients_and_back(pool: ProvisioningSite, control: Control) -> None:
    script = control.script()
    script.settled("server", "gpu_server", **SERVER)
    script.settled("client", "client", name="client-1", vcenter="lab", vm="client-1", max_gpus=1)
    script.settled("off", "client", name="client-1", vcenter="lab", vm="client-1", state="absent")
    script.settled("back", "gpu_server", name="gpu-server-1", vcenter="lab", state="absent", deadline_s=0)
    played = script.play()
    print(played.output)
    for each in ("server", "client", "off", "back"):
        assert played.settled(each)["changed"]
