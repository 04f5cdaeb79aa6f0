"""A GPU server from a bare host to the pool and back, with a real guest, over real SSH."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from provisioned import guest_site, server_wanted
from provisioning_site import ProvisioningSite


@pytest.fixture
def site(tmp_path: Path, new_database: Callable[[str], str]) -> Iterator[ProvisioningSite]:
    with guest_site(tmp_path, new_database("sqlite")) as made:
        yield made


def test_a_server_from_bare_host_to_pool(site: ProvisioningSite) -> None:
    run = site.succeeded(site.start("provision-server", **server_wanted()))
    for step in run["steps"]:
        print(step["name"], step["state"], step["found"], "|", step["did"], step["started_at"], step["ended_at"])
