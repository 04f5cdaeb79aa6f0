"""A simulated vCenter for each test, spoken to with pyVmomi over HTTPS, as any client would."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pyVim.connect import Disconnect
from simulator_client import connect

from vcenter.simulator import Simulation, start


@pytest.fixture
def vcenter() -> Iterator[Simulation]:
    with start(pace=0.002) as simulation:
        yield simulation


@pytest.fixture
def si(vcenter: Simulation) -> Iterator[Any]:
    instance = connect(vcenter)
    yield instance
    vcenter.control.clear()
    Disconnect(instance)


@pytest.fixture
def inventory(si: Any) -> SimpleNamespace:
    """The objects tests talk about, by short names."""
    content = si.content
    datacenter = content.rootFolder.childEntity[0]
    cluster = datacenter.hostFolder.childEntity[0]
    machines = {each.name: each for each in datacenter.vmFolder.childEntity}
    return SimpleNamespace(
        si=si,
        content=content,
        datacenter=datacenter,
        cluster=cluster,
        pool=cluster.resourcePool,
        hosts=list(cluster.host),
        machines=machines,
        template=machines["gpuferry-template"],
        folder=datacenter.vmFolder,
        stores={each.name: each for each in datacenter.datastore},
        networks={each.name: each for each in datacenter.network},
    )
