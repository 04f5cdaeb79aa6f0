"""A simulated vCenter for each test, over real HTTPS, and sessions with it."""

from collections.abc import Iterator

import pytest
from simulated_vcenter import endpoint_of, wait_for_guests

from vcenter.session import Session
from vcenter.simulator import Simulation, start


@pytest.fixture
def vcenter() -> Iterator[Simulation]:
    """The simulator's own data centre: three hosts, six GPUs, one template, two clients."""
    with start(pace=0.005) as simulation:
        wait_for_guests(simulation)
        yield simulation


@pytest.fixture
def session(vcenter: Simulation) -> Iterator[Session]:
    with Session(endpoint_of(vcenter), vcenter.password) as opened:
        yield opened
