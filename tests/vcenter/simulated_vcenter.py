"""How tests reach a simulated vCenter with our own session: pinned by its thumbprint."""

import time

from vcenter.certificate import Trust
from vcenter.session import Endpoint
from vcenter.simulator import Simulation
from vcenter.simulator.virtual_machine import VirtualMachine


def endpoint_of(simulation: Simulation, user: str = "") -> Endpoint:
    return Endpoint(simulation.host, user or simulation.user, simulation.port, Trust(thumbprint=simulation.thumbprint))


def wait_for_guests(simulation: Simulation, within_s: float = 60) -> None:
    """Wait until every machine that is on has an address: guests boot behind the clients' backs."""
    end = time.monotonic() + within_s
    machines = [each for each in simulation.world.objects.values() if isinstance(each, VirtualMachine)]
    while any(m.values["runtime"].powerState == "poweredOn" and not m.values["guest"].ipAddress for m in machines):
        assert time.monotonic() < end, "guests that are on have no address"
        time.sleep(0.01)
