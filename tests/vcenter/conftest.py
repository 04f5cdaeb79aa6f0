"""A simulated vCenter for each test, over real HTTPS, and sessions with it."""

from collections.abc import Iterator

import pytest

from vcenter.certificate import Trust
from vcenter.session import Endpoint, Session
from vcenter.simulator import Simulation, start


@pytest.fixture
def vcenter() -> Iterator[Simulation]:
    """The simulator's own data centre: three hosts, six GPUs, one template, two clients."""
    with start(pace=0.005) as simulation:
        yield simulation


def endpoint_of(simulation: Simulation, user: str = "") -> Endpoint:
    return Endpoint(simulation.host, user or simulation.user, simulation.port, Trust(thumbprint=simulation.thumbprint))


@pytest.fixture
def session(vcenter: Simulation) -> Iterator[Session]:
    with Session(endpoint_of(vcenter), vcenter.password) as opened:
        yield opened
