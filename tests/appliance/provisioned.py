"""Provisioning with real guests: the appliance at the guests' gateway, a bundle that it signed, sandboxes with sshd."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cupy
import pytest
from provisioning_site import ProvisioningSite

from appliance.deploy.building import build_bundle
from vcenter import simulator
from vcenter.simulator import GuestKind
from vcenter.simulator.guest_sandbox import SandboxError, SandboxGuests, demand_possible

PACKAGES = Path(cupy.__file__).parent.parent
SOFTWARE = {"GPUFERRY_SOFTGPU_DEVICES": "2", "GPUFERRY_SOFTGPU_MEMORY_MIB": "2048"}


def server_wanted(**changes: Any) -> dict[str, Any]:
    """Parameters of a server with two GPUs in software on the host whose cards are passed through already."""
    return {
        "vcenter": "lab",
        "host": "esx-01.example.test",
        "name": "gpu-server-1",
        "gpu_count": 2,
        "source": {"template": "gpuferry-template"},
        "network": "dv-management",
        "driver": "softgpu",
        "environment": SOFTWARE,
        "python_path": [str(PACKAGES)],
        **changes,
    }


@contextlib.contextmanager
def guest_site(
    folder: Path, database: str, *, pace: float = 0.005, inventory: Any = None
) -> Iterator[ProvisioningSite]:
    """A running appliance that guests reach, a vCenter whose machines are sandboxes, and a bundle."""
    try:
        demand_possible()
    except SandboxError as impossible:
        pytest.skip(str(impossible))
    with simulator.start(inventory, pace=pace, guests=GuestKind.SANDBOX, guest_bundles=[PACKAGES]) as simulation:
        guests = simulation.world.guests
        assert isinstance(guests, SandboxGuests)
        site = ProvisioningSite(folder / "site", database, guests._bridge.gateway)
        try:
            site.serve()
            build_bundle(site.folder, installed=True)
            site.await_up(120)
            site.add_vcenter(simulation)
            yield site
        finally:
            site.close()
