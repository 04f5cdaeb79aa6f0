"""How tests reach a simulated vCenter with our own session: pinned by its thumbprint."""

from vcenter.certificate import Trust
from vcenter.session import Endpoint
from vcenter.simulator import Simulation


def endpoint_of(simulation: Simulation, user: str = "") -> Endpoint:
    return Endpoint(simulation.host, user or simulation.user, simulation.port, Trust(thumbprint=simulation.thumbprint))
