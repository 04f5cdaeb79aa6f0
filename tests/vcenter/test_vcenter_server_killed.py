"""The process that makes a GPU server is killed at each step in turn; vCenter goes on; the repeat finishes the work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pyVmomi import vim
from simulated_vcenter import endpoint_of
from vm_facts import flatten

from vcenter.reading import load
from vcenter.server_plan import ServerRequest, Template, plan_server
from vcenter.server_vm import apply_server
from vcenter.session import Session
from vcenter.simulator import Simulation, start

REQUEST = ServerRequest(
    "gpu-server-1", Template("gpuferry-template"), "dv-management", count=2, rdma_network="dv-pvrdma"
)

# Makes the server, and kills itself without warning when the step given is under way.
DOOMED = """
import os, signal, sys
from vcenter.certificate import Trust
from vcenter.reading import load
from vcenter.server_plan import ServerRequest, Template, plan_server
from vcenter.server_vm import apply_server
from vcenter.session import Endpoint, Session

host, port, user, password, thumbprint, step = sys.argv[1:]

def die(event):
    if event.step == step:
        os.kill(os.getpid(), signal.SIGKILL)

template = Template("gpuferry-template")
request = ServerRequest("gpu-server-1", template, "dv-management", count=2, rdma_network="dv-pvrdma")
session = Session(Endpoint(host, user, int(port), Trust(thumbprint=thumbprint)), password)
apply_server(session, plan_server(session, load(session), request), die)
"""


def _doomed(vcenter: Simulation, step: str) -> int:
    where = (vcenter.host, str(vcenter.port), vcenter.user, vcenter.password, vcenter.thumbprint)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", DOOMED, *where, step], env=environment, timeout=120, check=False
    ).returncode


def _server(session: Session) -> dict[str, object]:
    config = session.object(vim.VirtualMachine, load(session).vm("gpu-server-1").id).config
    return {path: value for path, value in flatten(config).items() if not path.endswith("].url")}


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, object]:
    with start(pace=0.002) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
        apply_server(session, plan_server(session, load(session), REQUEST), address_timeout=30)
        return _server(session)


@pytest.mark.parametrize("step", ["clone", "reconfigure", "DRS and HA", "power on", "address"])
def test_killed_at_a_step(undisturbed: dict[str, object], step: str) -> None:
    with start(pace=0.02) as vcenter, Session(endpoint_of(vcenter), vcenter.password) as session:
        assert _doomed(vcenter, step) == -signal.SIGKILL
        _await_quiet(session)
        plan = plan_server(session, load(session), REQUEST)
        assert (plan.leftover != "") == (step in ("clone",)), plan
        server = apply_server(session, plan, address_timeout=30)
        assert server.address
        assert _server(session) == undisturbed
        assert sorted(vm.name for vm in load(session).vms.values()) == [
            "client-01",
            "client-02",
            "gpu-server-1",
            "gpuferry-template",
        ]
        cluster = session.object(vim.ClusterComputeResource, load(session).host("esx-01.example.test").cluster)
        assert [(rule.key._moId, rule.enabled) for rule in cluster.configurationEx.drsVmConfig] == [(server.id, False)]
        assert plan_server(session, load(session), REQUEST).empty


def _await_quiet(session: Session) -> None:
    for _ in range(1000):
        if all(str(task.info.state) in ("success", "error") for task in session.content.taskManager.recentTask):
            return
        signal.sigtimedwait([], 0.01)
    raise AssertionError("tasks are still running")
