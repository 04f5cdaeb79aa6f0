"""The sites of the tests of the console, each made once.

- `console_site`: daemons that say what a test tells them: two servers, leases, a queue, readings that are wrong
- `vcenter_site`: a simulated vCenter and no servers; its appliance may be killed
- `real_pool`: real daemons on software GPUs, in which clients run real programs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "appliance"))

from console_site import PATIENCE_S, ConsoleSite, readings_of
from pool_site import ClientMachine, PoolSite
from provisioning_site import ProvisioningSite, provisioning_site

GIB = 1024


def furnish(site: ConsoleSite) -> None:
    """Fill a running site with servers, clients, leases and a queue."""
    sizes = {"gpu-a01": [80 * GIB] * 4, "gpu-b01": [40 * GIB] * 2}
    for name, gpus in sizes.items():
        site.told_daemon(name, gpus, host=f"esx-{name[4:]}")
        site.tell(
            name,
            observe=readings_of(name, len(gpus), [61, 64, 93, 58][: len(gpus)], [87, 35, 99, 0][: len(gpus)]),
            use={"*": {"sessions": 1, "idle_s": 2.0, "memory_mib": 900, "calls": 1, "bytes": 1, "round_trips": 1}},
        )
    site.await_servers(2)
    clients = {name: site.enrol("client", name).id for name in ("ada", "grace", "katherine", "render-farm")}
    with site.api as api:
        for client, wanted in (
            ("ada", {"gpus": 1, "memory_mib": 24 * GIB, "program": "python train.py"}),
            ("grace", {"gpus": 1, "memory_mib": 16 * GIB, "program": "./simulate --steps 4000"}),
            ("ada", {"gpus": 2, "memory_mib": 30 * GIB, "program": "torchrun finetune.py"}),
            ("katherine", {"gpus": 1, "memory_mib": 8 * GIB, "program": "jupyter-lab"}),
            ("grace", {"gpus": 1, "fraction": 1.0, "filters": ["device.phy-memory=81920"], "program": "./simulate"}),
            ("katherine", {"gpus": 1, "memory_mib": 20 * GIB, "filters": ["server.hostname=gpu-b01"]}),
        ):
            made = site.lease(api, clients[client], **wanted)
            assert made["state"] == "active", made
        for number in range(3):
            queued = api.post(
                "/v1/leases",
                params={"wait_s": 0},
                json={"client": clients["render-farm"], "gpus": 4, "program": f"blender --frame {number}"},
            )
            assert queued.status_code == 201, queued.text


@pytest.fixture(scope="session")
def console_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSite]:
    folder = tmp_path_factory.mktemp("console")
    site = ConsoleSite(folder / "site", f"sqlite:///{folder}/appliance.db")
    site.serve()
    try:
        site.await_up(PATIENCE_S)
        furnish(site)
        yield site
    finally:
        site.close()


@pytest.fixture(scope="session")
def vcenter_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProvisioningSite]:
    folder = tmp_path_factory.mktemp("vcenter")
    with provisioning_site(folder, f"sqlite:///{folder}/appliance.db") as site:
        yield site


@pytest.fixture(scope="session")
def real_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolSite]:
    folder = tmp_path_factory.mktemp("real-pool")
    site = PoolSite(folder / "site", f"sqlite:///{folder}/appliance.db")
    try:
        site.serve()
        site.await_up(PATIENCE_S)
        site.gpu_server("s0", 2)
        site.await_servers(1)
        yield site
    finally:
        site.close()


@pytest.fixture(scope="session")
def machine(real_pool: PoolSite) -> ClientMachine:
    """A client VM."""
    return real_pool.client_machine("ada")


@pytest.fixture
def ada(real_pool: PoolSite, machine: ClientMachine) -> Iterator[ClientMachine]:
    """The client; every test leaves an empty pool to the next."""
    yield machine
    real_pool.await_free()


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the profile of whoever runs it, or depends on how their terminal looks."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("NO_COLOR", raising=False)
