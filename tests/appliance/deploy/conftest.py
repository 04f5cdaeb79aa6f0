"""One data centre of guests, one appliance and one bundle for all the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy_site import DeploySite, Guest, guests_of, sandbox_missing
from service_site import ServiceSite

from appliance.deploy.building import build_bundle

GUESTS = 60


@pytest.fixture(scope="session")
def deploy_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeploySite]:
    """Guests, an appliance that they reach, and its bundle."""
    if sandbox_missing():
        pytest.skip(sandbox_missing())
    folder: Path = tmp_path_factory.mktemp("deploy")
    with guests_of(folder, GUESTS) as guests:
        site = ServiceSite(folder / "site", f"sqlite:///{folder / 'appliance.db'}", guests.gateway)
        try:
            site.serve()
            bundle = build_bundle(site.folder, installed=True)
            site.await_up(120)
            yield DeploySite(site, bundle, guests)
        finally:
            site.close()


@pytest.fixture
def guest(deploy_site: DeploySite) -> Iterator[Guest]:
    """A fresh machine."""
    made = deploy_site.guests.new()
    yield made
    deploy_site.guests.off(made)
