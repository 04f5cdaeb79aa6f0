"""GPU servers against the simulated vCenter: made whole or not at all, changed, repeated, removed."""

import threading
import time
from typing import Any

import pytest
from pyVmomi import vim
from simulated_vcenter import endpoint_of
from vm_facts import differences, flatten

from vcenter import errors
from vcenter.cloud_init import CloudInit
from vcenter.inventory import GpuState
from vcenter.passthrough import apply_passthrough, plan_passthrough
from vcenter.reading import load
from vcenter.server_plan import ServerRequest, Template, plan_server, servers
from vcenter.server_vm import Server, apply_removal, apply_server, clear_cloud_init, plan_removal
from vcenter.session import Session
from vcenter.simulator import Simulation, start
from vcenter.tasks import ProgressEvent, wait_for_task

HOST = "esx-01.example.test"
_PORT_BACKING = "vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo"
INIT = CloudInit("gpu-server-1", "run-1", {"packages": ["rdma-core"]})
REQUEST = ServerRequest(
    name="gpu-server-1",
    source=Template("gpuferry-template"),
    network="dv-management",
    count=2,
    rdma_network="dv-pvrdma",
    cloud_init=INIT,
)
PLAIN = ServerRequest(name="gpu-server-1", source=Template("gpuferry-template"), network="dv-management")


def _make(session: Session, request: ServerRequest = REQUEST, events: list[ProgressEvent] | None = None) -> Server:
    seen = [] if events is None else events
    return apply_server(session, plan_server(session, load(session), request), seen.append, address_timeout=30)


def _config(session: Session, vm: str) -> Any:
    return session.object(vim.VirtualMachine, vm).config


def _gpu_states(session: Session, host: str = HOST) -> list[GpuState]:
    return [gpu.state for gpu in load(session).host(host).gpus]


# -- made ------------------------------------------------------------------------------------------


def test_two_gpus_and_pvrdma_field_by_field(session: Session) -> None:
    """The server's whole configuration is its template's, but for exactly what is listed here."""
    template = flatten(_config(session, load(session).template("gpuferry-template").id))
    events: list[ProgressEvent] = []
    server = _make(session, events=events)
    assert server.address.startswith("10.")
    inventory = load(session)
    switches = {switch.name: switch.uuid for switch in inventory.switches.values()}
    groups = {group.name: group.key for group in inventory.portgroups.values()}
    store = next(store for store in inventory.datastores.values() if store.name == "vsan-gpu").id
    config = _config(session, server.id)
    system_ids = {device.backing.systemId for device in config.hardware.device if hasattr(device.backing, "systemId")}
    assert len(system_ids) == 1
    options = {
        **INIT.options(),
        "gpuferry.role": "gpu-server",
        "pciPassthru.use64bitMMIO": "TRUE",
        "pciPassthru.64bitMMIOSizeGB": "256",  # 2 x 40 GB: up to 128, and once more
    }
    memory = 122880  # 1.5 x 2 x 40 GiB
    expected: dict[str, Any] = {
        "name": "gpu-server-1",
        "template": False,
        "annotation": "gpuferry GPU server: 2 x A100 PCIe 40GB",
        "files.vmPathName": "[vsan-gpu] gpu-server-1/gpu-server-1.vmx",
        "files.snapshotDirectory": "[vsan-gpu] gpu-server-1/",
        "files.suspendDirectory": "[vsan-gpu] gpu-server-1/",
        "files.logDirectory": "[vsan-gpu] gpu-server-1/",
        "datastoreUrl[0].name": "vsan-gpu",
        "datastoreUrl[0].url": session.object(vim.Datastore, store).summary.url,
        "hardware.numCPU": 8,
        "hardware.memoryMB": memory,
        "memoryAllocation.reservation": memory,
        "memoryReservationLockedToMax": True,
        "hardware.device[100].device[2]": 13000,
        "hardware.device[100].device[3]": 13001,
        "hardware.device[100].device[4]": 4001,
        "hardware.device[2000].backing.datastore": store,
        "hardware.device[2000].backing.fileName": "[vsan-gpu] gpu-server-1/gpu-server-1.vmdk",
        "hardware.device[4000].backing:type": _PORT_BACKING,
        "hardware.device[4000].backing.deviceName": None,
        "hardware.device[4000].backing.network": None,
        "hardware.device[4000].backing.useAutoDetect": None,
        "hardware.device[4000].backing.port:type": "vim.dvs.PortConnection",
        "hardware.device[4000].backing.port.switchUuid": switches["DSwitch"],
        "hardware.device[4000].backing.port.portgroupKey": groups["dv-management"],
        "hardware.device[4000].connectable.connected": True,
        "hardware.device[4000].connectable.status": "ok",
        "hardware.device[4001]:type": "vim.vm.device.VirtualVmxnet3Vrdma",
        "hardware.device[4001].key": 4001,
        "hardware.device[4001].controllerKey": 100,
        "hardware.device[4001].unitNumber": 8,
        "hardware.device[4001].addressType": "assigned",
        "hardware.device[4001].wakeOnLanEnabled": True,
        "hardware.device[4001].deviceProtocol": "rocev2",
        "hardware.device[4001].deviceInfo:type": "vim.Description",
        "hardware.device[4001].deviceInfo.label": "Network adapter 2",
        "hardware.device[4001].deviceInfo.summary": "PVRDMA network adapter",
        "hardware.device[4001].backing:type": _PORT_BACKING,
        "hardware.device[4001].backing.port:type": "vim.dvs.PortConnection",
        "hardware.device[4001].backing.port.switchUuid": switches["DSwitch-RDMA"],
        "hardware.device[4001].backing.port.portgroupKey": groups["dv-pvrdma"],
        "hardware.device[4001].connectable:type": "vim.vm.device.VirtualDevice.ConnectInfo",
        "hardware.device[4001].connectable.startConnected": True,
        "hardware.device[4001].connectable.allowGuestControl": True,
        "hardware.device[4001].connectable.connected": True,
        "hardware.device[4001].connectable.status": "ok",
    }
    for key, value in options.items():
        expected[f"extraConfig[{key}]:type"] = "vim.option.OptionValue"
        expected[f"extraConfig[{key}].key"] = key
        expected[f"extraConfig[{key}].value"] = value
    for number, address in enumerate(["0000:3b:00.0", "0000:3c:00.0"]):
        path = f"hardware.device[{13000 + number}]"
        expected |= {
            f"{path}:type": "vim.vm.device.VirtualPCIPassthrough",
            f"{path}.key": 13000 + number,
            f"{path}.controllerKey": 100,
            f"{path}.unitNumber": 18 + number,
            f"{path}.deviceInfo:type": "vim.Description",
            f"{path}.deviceInfo.label": f"PCI device {number}",
            f"{path}.deviceInfo.summary": address,
            f"{path}.backing:type": "vim.vm.device.VirtualPCIPassthrough.DeviceBackingInfo",
            f"{path}.backing.id": address,
            f"{path}.backing.deviceId": "20f1",
            f"{path}.backing.vendorId": 0x10DE,
            f"{path}.backing.systemId": next(iter(system_ids)),
            f"{path}.backing.deviceName": "A100 PCIe 40GB",
        }
    assert differences(template, flatten(config)) == expected
    assert [event.step for event in events if event.percent == 100] == [
        "clone",
        "reconfigure",
        "DRS and HA",
        "power on",
        "address",
    ]


def test_it_is_one_reconfiguration(session: Session, vcenter: Simulation) -> None:
    _make(session)
    assert vcenter.control.count("ReconfigVM_Task") == 1


def test_drs_leaves_it_alone_and_ha_does_not_restart_it(session: Session) -> None:
    server = _make(session)
    cluster = session.object(vim.ClusterComputeResource, load(session).host(HOST).cluster)
    configuration = cluster.configurationEx
    assert [(c.key._moId, c.enabled) for c in configuration.drsVmConfig] == [(server.id, False)]
    assert [(c.key._moId, c.dasSettings.restartPriority) for c in configuration.dasVmConfig] == [
        (server.id, "disabled")
    ]


def test_the_inventory_shows_it(session: Session) -> None:
    server = _make(session)
    inventory = load(session)
    assert [vm.name for vm in servers(inventory)] == ["gpu-server-1"]
    assert _gpu_states(session) == [GpuState.IN_USE, GpuState.IN_USE]
    assert {user.vm for gpu in inventory.host(HOST).gpus for user in gpu.users} == {server.id}
    assert inventory.vm("gpu-server-1").address == server.address
    assert inventory.reserved_mib(inventory.host(HOST).id) == 122880


def test_dynamic_devices_with_a_label(session: Session) -> None:
    apply_passthrough(session, plan_passthrough(session, load(session), HOST, label="pool"))
    request = ServerRequest(
        "dynamic", Template("gpuferry-template"), "dv-management", model="A100", dynamic=True, label="pool"
    )
    server = _make(session, request)
    devices = [
        d for d in _config(session, server.id).hardware.device if isinstance(d, vim.vm.device.VirtualPCIPassthrough)
    ]
    assert len(devices) == 1
    backing = devices[0].backing
    assert isinstance(backing, vim.vm.device.VirtualPCIPassthrough.DynamicBackingInfo)
    assert [(a.vendorId, a.deviceId) for a in backing.allowedDevice] == [(0x10DE, 0x20F1)]
    assert backing.customLabel == "pool"
    cluster = session.object(vim.ClusterComputeResource, load(session).host(HOST).cluster)
    assert [c.enabled for c in cluster.configurationEx.drsVmConfig] == [False]
    assert list(cluster.configurationEx.dasVmConfig) == []  # HA may restart it where such a card is
    assert GpuState.IN_USE in _gpu_states(session)
    assert plan_server(session, load(session), request).empty


def test_an_old_template_is_raised_to_the_hardware_version_needed() -> None:
    with (
        start(_site(template={"hardware": 13}), pace=0.002) as simulation,
        Session(endpoint_of(simulation), simulation.password) as session,
    ):
        server = _make(session, ServerRequest("s", Template("t"), "net", dynamic=True, cpus=2))
        assert load(session).vms[server.id].hardware_version == 17


def test_a_host_outside_any_cluster() -> None:
    site = _site()
    datacenter = site["datacenters"][0]
    datacenter["hosts"] = datacenter.pop("clusters")[0]["hosts"]
    with start(site, pace=0.002) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
        request = ServerRequest("s", Template("t"), "net", count=2, cpus=2)
        plan = plan_server(session, load(session), request)
        assert not any("DRS" in step for step in plan.steps)
        assert apply_server(session, plan, address_timeout=30).address
        assert simulation.control.count("ReconfigureComputeResource_Task") == 0
        assert plan_server(session, load(session), request).empty


def _site(**changes: dict[str, Any]) -> dict[str, Any]:
    """A small site: one host with two T4, one template `t`."""
    template = {"name": "t", "template": True, "host": "h", "datastore": "ds", "network": "net", "cpus": 1,
                "memory_gib": 2, "disk_gib": 10, "firmware": "efi", "hardware": 19}  # fmt: skip
    host = {"name": "h", "memory_gib": 128, "gpus": [{"model": "T4", "count": 2, "passthrough": "active"}]}
    datacenter = {
        "name": "DC",
        "datastores": [{"name": "ds", "capacity_gib": 500, **changes.get("datastore", {})}],
        "networks": ["net"],
        "clusters": [{"name": "c", "hosts": [{**host, **changes.get("host", {})}]}],
        "virtual_machines": [{**template, **changes.get("template", {})}],
    }
    return {"datacenters": [datacenter]}


# -- repeated and changed --------------------------------------------------------------------------


def test_the_same_request_again_finds_nothing_to_do(session: Session, vcenter: Simulation) -> None:
    first = _make(session)
    calls = {name: vcenter.control.count(name) for name in ("CloneVM_Task", "ReconfigVM_Task", "PowerOnVM_Task")}
    plan = plan_server(session, load(session), REQUEST)
    assert plan.empty
    assert apply_server(session, plan) == first
    assert {name: vcenter.control.count(name) for name in calls} == calls


def test_a_change_needs_leave_to_power_off_and_keeps_everything_else(session: Session) -> None:
    server = _make(session)
    before = flatten(_config(session, server.id))
    more = ServerRequest(**{**REQUEST.__dict__, "cpus": 16, "count": 1})
    with pytest.raises(errors.InvalidRequest, match="runs"):
        plan_server(session, load(session), more)
    changed = ServerRequest(**{**more.__dict__, "may_power_off": True})
    plan = plan_server(session, load(session), changed)
    assert plan.steps == ("power off", "reconfigure it once, with everything below", "power on")
    assert apply_server(session, plan).id == server.id
    changes = differences(before, flatten(_config(session, server.id)))
    assert changes["hardware.numCPU"] == 16
    assert changes["hardware.memoryMB"] == 61440
    assert changes["extraConfig[pciPassthru.64bitMMIOSizeGB].value"] == "128"
    assert changes["hardware.device[13001]:type"] is None
    assert not any("4001" in path and "connected" not in path for path in changes if "[100]" not in path), changes
    assert not any("guestinfo" in path for path in changes)
    assert sorted(state.value for state in _gpu_states(session)) == ["in use", "ready"]
    assert (
        apply_server(
            session, plan_server(session, load(session), ServerRequest(**{**REQUEST.__dict__, "may_power_off": True}))
        ).id
        == server.id
    )
    back = differences(before, flatten(_config(session, server.id)))
    assert {
        path for path in back if ".device[100].device" not in path
    } == set()  # the order on the PCI controller may differ


def test_a_powered_off_server_is_powered_on_by_the_repeat(session: Session) -> None:
    server = _make(session)
    ref = session.object(vim.VirtualMachine, server.id)
    wait_for_task(session, ref.PowerOffVM_Task(), "off", server.name)
    assert _gpu_states(session) == [GpuState.HELD, GpuState.HELD]
    plan = plan_server(session, load(session), REQUEST)
    assert (plan.changes, plan.steps) == ((), ("power on",))
    assert apply_server(session, plan).address == server.address


def test_cloud_init_is_cleared_once_and_stays_so(session: Session) -> None:
    server = _make(session)
    ref = session.object(vim.VirtualMachine, server.id)
    assert clear_cloud_init(session, ref, server.name) is True
    assert clear_cloud_init(session, ref, server.name) is False
    left = {option.key: option.value for option in _config(session, server.id).extraConfig}
    assert not any(value for key, value in left.items() if key.startswith("guestinfo"))
    assert plan_server(session, load(session), REQUEST).empty


# -- removed ---------------------------------------------------------------------------------------


def test_removed_and_the_gpus_are_free(session: Session) -> None:
    _make(session)
    plan = plan_removal(session, load(session), "gpu-server-1")
    assert plan.steps == ("power off", "delete")
    apply_removal(session, plan)
    assert _gpu_states(session) == [GpuState.READY, GpuState.READY]
    assert [vm.name for vm in load(session).vms.values()] == ["gpuferry-template", "client-01", "client-02"]
    again = plan_removal(session, load(session), "gpu-server-1")
    assert again.empty
    apply_removal(session, again)
    with pytest.raises(errors.NotFound):  # a stale plan says that its object is gone
        apply_removal(session, plan)


def test_kept_but_without_its_gpus(session: Session) -> None:
    server = _make(session)
    apply_removal(session, plan_removal(session, load(session), "gpu-server-1", delete=False))
    assert _gpu_states(session) == [GpuState.READY, GpuState.READY]
    assert not load(session).vms[server.id].running
    assert plan_removal(session, load(session), "gpu-server-1", delete=False).empty
    # and it gets them back when asked for again
    assert apply_server(session, plan_server(session, load(session), REQUEST)).id == server.id
    assert _gpu_states(session) == [GpuState.IN_USE, GpuState.IN_USE]


def test_other_peoples_machines_are_not_removed(session: Session) -> None:
    with pytest.raises(errors.InvalidRequest, match="no GPU server"):
        plan_removal(session, load(session), "client-01")


# -- refused, each with its own error --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "names"),
    [
        ({"network": "nowhere"}, errors.PortgroupMissing, "nowhere"),
        ({"rdma_network": "nowhere"}, errors.PortgroupMissing, "nowhere"),
        ({"rdma_network": "VM Network"}, errors.InvalidRequest, "VM Network"),
        ({"count": 3}, errors.NoCapacity, "esx-01.example.test"),
        ({"model": "H200"}, errors.NoCapacity, "H200"),
        ({"memory_mib": 2_000_000}, errors.NoCapacity, "esx-01.example.test"),
        ({"host": "esx-02.example.test"}, errors.NoCapacity, "off"),
        ({"host": "esx-01.example.test", "gpus": ("0000:ff:00.0",)}, errors.NotFound, "0000:ff:00.0"),
        ({"host": "nowhere"}, errors.NotFound, "nowhere"),
        ({"source": Template("nothing")}, errors.NotFound, "nothing"),
        ({"source": Template("client-01")}, errors.InvalidRequest, "runs"),
        ({"name": "client-01"}, errors.NameTaken, "client-01"),
        ({"name": "gpuferry-template"}, errors.NameTaken, "gpuferry-template"),
        ({"datastore": "nowhere"}, errors.NotFound, "nowhere"),
        ({"folder": "nowhere"}, errors.NotFound, "nowhere"),
        ({"memory_mib": 1023}, errors.InvalidRequest, "multiple of 4"),
        ({"mmio_gb": 100}, errors.InvalidRequest, "power of two"),
    ],
)
def test_bad_requests_change_nothing(
    session: Session, vcenter: Simulation, changes: dict[str, Any], error: type[errors.VcenterError], names: str
) -> None:
    before = load(session)
    with pytest.raises(error, match=names):
        plan_server(session, before, ServerRequest(**{**REQUEST.__dict__, **changes}))
    assert load(session) == before
    assert vcenter.control.count("CloneVM_Task") == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a/b"},
        {"name": "x" * 81},
        {"gpus": ("0000:3b:00.0",)},
        {"count": 0},
        {"dynamic": True, "host": "h", "gpus": ("0000:3b:00.0",)},
    ],
)
def test_requests_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest):
        ServerRequest(**{"name": "s", "source": Template("t"), "network": "n", **fields})


def test_a_bios_template() -> None:
    with (
        start(_site(template={"firmware": "bios"}), pace=0.002) as simulation,
        Session(endpoint_of(simulation), simulation.password) as session,
        pytest.raises(errors.InvalidRequest, match="EFI"),
    ):
        plan_server(session, load(session), ServerRequest("s", Template("t"), "net"))


def test_a_full_datastore() -> None:
    with (
        start(_site(datastore={"capacity_gib": 12}, template={"disk_gib": 11}), pace=0.002) as simulation,
        Session(endpoint_of(simulation), simulation.password) as session,
        pytest.raises(errors.NoCapacity, match="ds"),
    ):
        plan_server(session, load(session), ServerRequest("s", Template("t"), "net"))


def test_a_device_that_another_server_holds(session: Session) -> None:
    _make(session)
    second = ServerRequest(**{**REQUEST.__dict__, "name": "gpu-server-2", "count": 1})
    with pytest.raises(errors.NoCapacity, match="in use by gpu-server-1"):
        plan_server(session, load(session), second)


def test_a_device_taken_between_plan_and_apply(session: Session) -> None:
    """Both planned for the same cards; the second one loses, whole."""
    second = ServerRequest(**{**REQUEST.__dict__, "name": "gpu-server-2"})
    late = plan_server(session, load(session), second)
    _make(session)
    with pytest.raises(errors.DeviceInUse) as refused:
        apply_server(session, late)
    assert refused.value.object_name == "gpu-server-2"
    assert refused.value.fault == "vim.fault.GenericVmConfigFault"
    assert "gpu-server-2" not in {vm.name for vm in load(session).vms.values()}
    assert _gpu_states(session) == [GpuState.IN_USE, GpuState.IN_USE]


def test_the_host_goes_away_between_plan_and_apply(session: Session) -> None:
    plan = plan_server(session, load(session), REQUEST)
    host = session.object(vim.HostSystem, load(session).host(HOST).id)
    wait_for_task(session, host.DisconnectHost_Task(), "disconnect", HOST)
    with pytest.raises(errors.VcenterError):
        apply_server(session, plan)
    assert "gpu-server-1" not in {vm.name for vm in load(session).vms.values()}
    with pytest.raises(errors.NoCapacity, match="not connected"):
        plan_server(session, load(session), REQUEST)


def test_a_missing_privilege_is_named(vcenter: Simulation) -> None:
    rights = ["System.Anonymous", "System.View", "System.Read", "VirtualMachine.Provisioning.DeployTemplate"]
    vcenter.control.restrict("less@vsphere.local", "pw", rights)
    with Session(endpoint_of(vcenter, "less@vsphere.local"), "pw") as session:
        plan = plan_server(session, load(session), PLAIN)
        with pytest.raises(errors.MissingPrivilege) as refused:
            apply_server(session, plan)
    assert refused.value.privilege
    assert refused.value.privilege in refused.value.remedy


def test_a_silent_guest_stays_and_the_repeat_waits_again(session: Session, vcenter: Simulation) -> None:
    plan = plan_server(session, load(session), ServerRequest(**{**PLAIN.__dict__, "power_on": False}))
    apply_server(session, plan)
    vcenter.world.pace = 0.3  # the guest takes five paces to boot
    on = plan_server(session, load(session), PLAIN)
    with pytest.raises(errors.GuestSilent) as silent:
        apply_server(session, on, address_timeout=1)
    assert silent.value.object_name == "gpu-server-1"
    assert load(session).vm("gpu-server-1").running
    again = apply_server(session, plan_server(session, load(session), PLAIN), address_timeout=30)
    assert again.address


# -- never half-made -------------------------------------------------------------------------------


def _state(session: Session) -> dict[str, Any]:
    """Everything that must be as if a failed run had not been: machines, cards, cluster rules, files."""
    inventory = load(session)
    cluster = session.object(vim.ClusterComputeResource, inventory.host(HOST).cluster)
    return {
        "machines": sorted(vm.name for vm in inventory.vms.values()),
        "gpus": [(gpu.id, gpu.state) for gpu in inventory.gpus()],
        "rules": len(cluster.configurationEx.drsVmConfig) + len(cluster.configurationEx.dasVmConfig),
        "free": [store.free_mib for store in inventory.datastores.values()],
    }


def _finished(session: Session) -> dict[str, Any]:
    """The finished server, without what names this very machine."""
    facts = flatten(_config(session, load(session).vm("gpu-server-1").id))
    return {path: value for path, value in facts.items() if not path.endswith("].url")}  # each simulation has its own


@pytest.fixture(scope="module")
def whole_run() -> tuple[list[tuple[str, str]], list[str], dict[str, Any]]:
    """An undisturbed run: the steps of its tasks, the calls that change something, the finished server."""
    with start(pace=0.001) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
        plan = plan_server(session, load(session), REQUEST)
        seen = simulation.control.record()
        apply_server(session, plan, address_timeout=30)
        steps = [(one.method, one.step) for one in seen if one.step]
        changing = [one.method for one in seen if not one.step and one.method.endswith("_Task")]
        return steps, changing, _finished(session)


def test_failure_at_every_step_leaves_nothing_and_the_repeat_finishes(
    whole_run: tuple[list[tuple[str, str]], list[str], dict[str, Any]],
) -> None:
    steps, changing, finished = whole_run
    assert changing == ["CloneVM_Task", "ReconfigVM_Task", "ReconfigureComputeResource_Task", "PowerOnVM_Task"]
    assert {method for method, _ in steps} == set(changing)
    assert len(steps) >= 12
    points: list[tuple[str, str | None]] = [*steps, *((method, None) for method in [*changing, "QueryConfigTarget"])]
    for method, step in points:
        with start(pace=0.001) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
            before = _state(session)
            plan = plan_server(session, load(session), REQUEST)
            failure = simulation.control.fail(method, step=step)
            with pytest.raises(errors.VcenterError) as failed:
                apply_server(session, plan, address_timeout=30)
            assert failure.hits >= 1, (method, step)
            assert failed.value.object_name, (method, step)
            assert _state(session) == before, (method, step)
            _make(session)
            assert _finished(session) == finished, (method, step)


@pytest.mark.parametrize("before", [True, False])
def test_lost_answers_leave_nothing_that_the_repeat_does_not_finish(
    whole_run: tuple[list[tuple[str, str]], list[str], dict[str, Any]], before: bool
) -> None:
    """The connection breaks before or after vCenter has begun; whatever went on in it, one machine comes out."""
    _, changing, finished = whole_run
    for method in changing:
        with start(pace=0.001) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
            plan = plan_server(session, load(session), REQUEST)
            simulation.control.lose_answer(method, before=before)
            with pytest.raises(errors.Unreachable):
                apply_server(session, plan, address_timeout=30)
            assert simulation.control.count(method) == 1, method
            _await_quiet(session)
            _make(session)
            assert _finished(session) == finished, method
            assert sorted(vm.name for vm in load(session).vms.values()) == [
                "client-01",
                "client-02",
                "gpu-server-1",
                "gpuferry-template",
            ]


def test_an_expired_session_or_a_silent_vcenter_does_not_end_a_wait(session: Session, vcenter: Simulation) -> None:
    """The clone goes on in vCenter; whoever waits for it goes on waiting."""
    plan = plan_server(session, load(session), PLAIN)
    vcenter.world.pace = 0.1
    disturbed: list[str] = []

    def disturb(event: ProgressEvent) -> None:
        if event.step in ("clone", "power on") and event.step not in disturbed and event.percent != 100:
            disturbed.append(event.step)
            vcenter.control.expire_sessions()
            vcenter.control.lose_answer("WaitForUpdatesEx", times=5)  # more than one call repeats by itself

    server = apply_server(session, plan, disturb, address_timeout=60)
    assert server.address
    assert disturbed == ["clone", "power on"]
    assert vcenter.control.count("CloneVM_Task") == 1


def _await_quiet(session: Session) -> None:
    """Until no task runs: a call whose answer was lost goes on in vCenter."""
    manager = session.content.taskManager
    for _ in range(500):
        if all(str(task.info.state) in ("success", "error") for task in manager.recentTask):
            return
        time.sleep(0.01)
    raise AssertionError("tasks are still running")


def test_a_machine_that_is_being_built_by_another_run_is_left_alone(session: Session, vcenter: Simulation) -> None:
    vcenter.world.pace = 0.1
    plan = plan_server(session, load(session), PLAIN)
    other = threading.Thread(target=lambda: apply_server(session, plan, address_timeout=60))
    other.start()
    refused = False
    while other.is_alive():
        inventory = load(session)
        if "gpu-server-1" in {vm.name for vm in inventory.vms.values()}:
            try:
                seen = plan_server(session, inventory, PLAIN)
            except errors.HostBusy:
                refused = True
            else:
                if not seen.leftover:
                    break  # it has been reconfigured: no longer half-made
        threading.Event().wait(0.02)
    other.join()
    assert refused
    assert [vm.name for vm in servers(load(session))] == ["gpu-server-1"]


def test_an_rdma_uplink_is_demanded(session: Session) -> None:
    """A host without an RDMA uplink on the PVRDMA switch is no place for a PVRDMA server."""
    apply_passthrough(session, plan_passthrough(session, load(session), "esx-03.example.test"))
    request = ServerRequest(**{**REQUEST.__dict__, "host": "esx-03.example.test", "count": 1})
    with pytest.raises(errors.NoCapacity, match="distributed switch of dv-pvrdma"):
        plan_server(session, load(session), request)
    assert not plan_server(session, load(session), ServerRequest(**{**request.__dict__, "rdma_network": ""})).empty
