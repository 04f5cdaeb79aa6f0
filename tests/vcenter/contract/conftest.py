"""The same vSphere twice: our simulated vCenter, and govmomi's vcsim, with the same inventory."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pyVim.connect import Disconnect, SmartConnect
from vcsim_server import PASSWORD, USER, vcsim

from vcenter.simulator import start

# What vcsim's model VPX makes with one cluster of three hosts and two machines.
INVENTORY: dict[str, Any] = {
    "users": [{"name": USER, "password": PASSWORD}],
    "datacenters": [
        {
            "name": "DC0",
            "datastores": [{"name": "LocalDS_0", "capacity_gib": 10_000}],
            "networks": ["VM Network"],
            "switches": [{"name": "DVS0", "portgroups": [{"name": "DC0_DVPG0"}]}],
            "clusters": [
                {
                    "name": "DC0_C0",
                    "hosts": [
                        {"name": f"DC0_C0_H{number}", "nics": [{"model": "X710", "switch": "DVS0"}]}
                        for number in range(3)
                    ],
                }
            ],
            "virtual_machines": [
                {"name": f"DC0_C0_RP0_VM{number}", "host": "DC0_C0_H0", "network": "DC0_DVPG0", "hardware": 17}
                for number in range(2)
            ],
        }
    ],
}


@pytest.fixture(params=["ours", "vcsim"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Where a vCenter is, and who may log in."""
    if request.param == "ours":
        with start(INVENTORY, api_version="7.0.3.0", pace=0.001) as simulation:
            yield SimpleNamespace(host=simulation.host, port=simulation.port, user=USER, password=PASSWORD, name="ours")
    else:
        with vcsim() as running:
            running.name = "vcsim"
            yield running


@pytest.fixture
def site(server: Any) -> Iterator[SimpleNamespace]:
    """The objects tests talk about, by short names."""
    si = SmartConnect(
        host=server.host, port=server.port, user=server.user, pwd=server.password, disableSslCertValidation=True
    )
    content = si.RetrieveContent()
    datacenter = next(each for each in content.rootFolder.childEntity if each.name == "DC0")
    cluster = next(each for each in datacenter.hostFolder.childEntity if each.name == "DC0_C0")
    yield SimpleNamespace(
        server=server,
        si=si,
        content=content,
        datacenter=datacenter,
        cluster=cluster,
        pool=cluster.resourcePool,
        hosts=sorted(cluster.host, key=lambda each: each.name),
        folder=datacenter.vmFolder,
        store=next(each for each in datacenter.datastore if each.name == "LocalDS_0"),
        networks={each.name: each for each in datacenter.network},
        machines={each.name: each for each in datacenter.vmFolder.childEntity},
    )
    Disconnect(si)
