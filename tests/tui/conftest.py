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

from console_site import PATIENCE_S, ConsoleSite, furnish
from pool_site import ClientMachine, PoolSite
from provisioning_site import ProvisioningSite, provisioning_site


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
