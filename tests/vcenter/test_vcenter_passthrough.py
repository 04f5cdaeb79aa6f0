"""Passthrough on and off against the simulated vCenter: at once, through a reboot, refused, and never half-way."""

import pytest
from conftest import endpoint_of
from pyVmomi import vim

from vcenter import errors, host_power
from vcenter.inventory import GpuState
from vcenter.passthrough import apply_passthrough, plan_passthrough
from vcenter.reading import load
from vcenter.session import Session
from vcenter.simulator import Simulation, start
from vcenter.tasks import ProgressEvent

AT_ONCE = "esx-02.example.test"
BY_REBOOT = "esx-03.example.test"
READY = "esx-01.example.test"


def _states(session: Session, host: str) -> list[GpuState]:
    return [gpu.state for gpu in load(session).host(host).gpus]


def _in_maintenance(session: Session) -> list[str]:
    return [host.name for host in load(session).hosts.values() if host.in_maintenance]


def test_a_plan_shows_the_exact_change_and_changes_nothing(session: Session, vcenter: Simulation) -> None:
    before = load(session)
    plan = plan_passthrough(session, before, AT_ONCE, ["0000:3c:00.0"])
    assert [str(change) for change in plan.changes] == [f"{AT_ONCE}: passthrough of 0000:3c:00.0: off -> on"]
    assert plan.devices == ("0000:3c:00.0",)
    assert load(session) == before
    assert vcenter.control.count("UpdatePassthruConfig") == 0


def test_on_at_once_then_off_again_and_each_is_safe_to_repeat(session: Session, vcenter: Simulation) -> None:
    for enable, state in ((True, GpuState.READY), (False, GpuState.OFF)):
        plan = plan_passthrough(session, load(session), AT_ONCE, enable=enable)
        assert len(plan.changes) == 2
        assert apply_passthrough(session, plan) is False
        assert _states(session, AT_ONCE) == [state, state]
        assert plan_passthrough(session, load(session), AT_ONCE, enable=enable).empty
        assert apply_passthrough(session, plan) is False  # the same plan again does no harm
    assert vcenter.control.count("RebootHost_Task") == 0
    assert vcenter.control.count("EnterMaintenanceMode_Task") == 0


def test_through_a_reboot(session: Session, vcenter: Simulation) -> None:
    booted = load(session).host(BY_REBOOT).boot_time
    assert booted is not None
    events: list[ProgressEvent] = []
    plan = plan_passthrough(session, load(session), BY_REBOOT)
    assert "reboot" in " ".join(plan.steps)
    assert apply_passthrough(session, plan, events.append) is True
    host = load(session).host(BY_REBOOT)
    assert [gpu.state for gpu in host.gpus] == [GpuState.READY, GpuState.READY]
    assert host.boot_time is not None
    assert host.boot_time > booted
    assert (host.connection, host.in_maintenance, host.reboot_required) == ("connected", False, False)
    assert [event.step for event in events if event.percent == 100] == [
        "maintenance",
        "reboot",
        "leave maintenance",
        "passthrough",
    ]
    assert vcenter.control.count("RebootHost_Task") == 1


def test_a_card_of_several_functions_changes_as_one(session: Session, vcenter: Simulation) -> None:
    """RTX 6000 Ada: the audio function must change with the GPU, or vSphere refuses."""
    plan = plan_passthrough(session, load(session), BY_REBOOT, ["0000:3b:00.0"], enable=False)
    assert plan.devices == ("0000:3b:00.0", "0000:3b:00.1")
    apply_passthrough(session, plan)
    assert load(session).gpu(BY_REBOOT, "0000:3b:00.0").state is GpuState.OFF
    assert vcenter.control.count("UpdatePassthruConfig") == 1


def test_without_leave_to_reboot_it_says_that_one_is_needed(session: Session) -> None:
    plan = plan_passthrough(session, load(session), BY_REBOOT, ["0000:3c:00.0"], allow_reboot=False)
    with pytest.raises(errors.DeviceNotReady, match="not active yet") as left:
        apply_passthrough(session, plan)
    assert left.value.remedy == "Reboot the host."
    assert load(session).gpu(BY_REBOOT, "0000:3c:00.0").state is GpuState.REBOOT_TO_TURN_ON
    assert apply_passthrough(session, plan_passthrough(session, load(session), BY_REBOOT, ["0000:3c:00.0"])) is True


def test_hardware_labels(session: Session) -> None:
    plan = plan_passthrough(session, load(session), AT_ONCE, ["0000:3b:00.0"], label="pool-a")
    assert [change.what for change in plan.changes] == ["passthrough of 0000:3b:00.0", "hardware label of 0000:3b:00.0"]
    apply_passthrough(session, plan)
    assert load(session).gpu(AT_ONCE, "0000:3b:00.0").hardware_label == "pool-a"
    assert plan_passthrough(session, load(session), AT_ONCE, ["0000:3b:00.0"], label="pool-a").empty


def test_an_old_vcenter_gets_no_label_and_no_apply_now() -> None:
    with start(api_version="6.7", pace=0.005) as old, Session(endpoint_of(old), old.password) as session:
        with pytest.raises(errors.ApiTooOld):
            plan_passthrough(session, load(session), AT_ONCE, label="pool-a")
        assert plan_passthrough(session, load(session), AT_ONCE).apply_now is False


# -- refused
# --------------------------------------------------------------------------------------------------------------


def test_unknown_host_and_device(session: Session) -> None:
    inventory = load(session)
    with pytest.raises(errors.NotFound):
        plan_passthrough(session, inventory, "nowhere")
    with pytest.raises(errors.NotFound):
        plan_passthrough(session, inventory, AT_ONCE, ["0000:ff:00.0"])


def test_a_disconnected_host(session: Session, vcenter: Simulation) -> None:
    plan = plan_passthrough(session, load(session), AT_ONCE)
    host = session.object(vim.HostSystem, load(session).host(AT_ONCE).id)
    from vcenter.tasks import wait_for_task

    wait_for_task(session, host.DisconnectHost_Task(), "disconnect", AT_ONCE)
    with pytest.raises(errors.HostDisconnected) as refused:
        plan_passthrough(session, load(session), AT_ONCE)
    assert refused.value.object_name == AT_ONCE
    with pytest.raises(errors.HostDisconnected):  # and one that went away after the plan was made
        apply_passthrough(session, plan)
    assert {gpu.state for gpu in load(session).host(AT_ONCE).gpus} == {GpuState.HOST_GONE}


def test_a_card_that_serves_vgpu() -> None:
    site = {
        "datacenters": [
            {
                "name": "DC",
                "datastores": [{"name": "ds", "capacity_gib": 100}],
                "clusters": [
                    {"name": "c", "hosts": [{"name": "h", "gpus": [{"model": "T4", "graphics": "sharedDirect"}]}]}
                ],
            }
        ]
    }
    with start(site, pace=0.005) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
        assert load(session).gpus()[0].state is GpuState.SHARED_DIRECT
        with pytest.raises(errors.GraphicsTypeForbids) as refused:
            plan_passthrough(session, load(session), "h")
        assert "Shared" in refused.value.remedy


def test_running_machines_without_drs_block_the_reboot() -> None:
    site = {
        "datacenters": [
            {
                "name": "DC",
                "datastores": [{"name": "ds", "capacity_gib": 100}],
                "networks": ["VM Network"],
                "hosts": [{"name": "h", "passthrough_needs_reboot": True, "gpus": [{"model": "T4"}]}],
                "virtual_machines": [
                    {"name": "busy", "host": "h", "datastore": "ds", "network": "VM Network", "power": "on"}
                ],
            }
        ]
    }
    with start(site, pace=0.005) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
        plan = plan_passthrough(session, load(session), "h")
        assert "busy" in plan.warnings[0]
        with pytest.raises(errors.HostBusy, match="busy"):
            apply_passthrough(session, plan)
        assert simulation.control.count("EnterMaintenanceMode_Task") == 0
        assert _in_maintenance(session) == []


# -- never half-way
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["EnterMaintenanceMode_Task", "RebootHost_Task", "ExitMaintenanceMode_Task", "Refresh"]
)
def test_a_failing_call_leaves_no_host_in_maintenance_and_the_repeat_finishes(
    session: Session, vcenter: Simulation, method: str
) -> None:
    vcenter.control.fail(method, on="*")
    with pytest.raises(errors.VcenterError):
        apply_passthrough(session, plan_passthrough(session, load(session), BY_REBOOT))
    vcenter.control.clear()
    if method == "ExitMaintenanceMode_Task":  # the one call that takes it out has failed
        host = session.object(vim.HostSystem, load(session).host(BY_REBOOT).id)
        host_power.leave_maintenance(session, host, BY_REBOOT)
    assert _in_maintenance(session) == []
    plan = plan_passthrough(session, load(session), BY_REBOOT)
    apply_passthrough(session, plan)
    assert _states(session, BY_REBOOT) == [GpuState.READY, GpuState.READY]
    assert _in_maintenance(session) == []


def _steps(vcenter: Simulation, session: Session) -> list[tuple[str, str]]:
    """The steps of all tasks of a whole run, in order."""
    seen = vcenter.control.record()
    apply_passthrough(session, plan_passthrough(session, load(session), BY_REBOOT))
    return [(one.method, one.step) for one in seen if one.step]


def test_failure_at_every_step_of_every_task(vcenter: Simulation) -> None:
    with Session(endpoint_of(vcenter), vcenter.password) as session:
        steps = _steps(vcenter, session)
    assert {method for method, _ in steps} == {
        "EnterMaintenanceMode_Task",
        "RebootHost_Task",
        "ExitMaintenanceMode_Task",
    }
    for method, step in steps:
        with start(pace=0.002) as fresh, Session(endpoint_of(fresh), fresh.password) as session:
            fresh.control.fail(method, step=step)
            with pytest.raises(errors.VcenterError) as failed:
                apply_passthrough(session, plan_passthrough(session, load(session), BY_REBOOT))
            assert failed.value.object_name == BY_REBOOT
            left = _in_maintenance(session)
            assert left == ([] if method != "ExitMaintenanceMode_Task" else left), (method, step)
            apply_passthrough(session, plan_passthrough(session, load(session), BY_REBOOT))
            assert _states(session, BY_REBOOT) == [GpuState.READY, GpuState.READY], (method, step)
