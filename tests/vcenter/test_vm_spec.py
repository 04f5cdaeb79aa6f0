"""The ConfigSpec of a GPU server, pure: what differs is in it, in one piece, and nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim

from vcenter import vm_spec
from vcenter.errors import InvalidRequest
from vcenter.vm_spec import Adapter, DynamicGpu, FixedGpu, Hardware, Port, difference

LAN = Port("dv-lan", switch_uuid="50 01", portgroup_key="dvportgroup-1")
RDMA = Port("dv-rdma", switch_uuid="50 02", portgroup_key="dvportgroup-2")
STANDARD = Port("VM Network", network_id="network-1")
A100 = FixedGpu("0000:3b:00.0", 0x10DE, 0x20B5, "5f1c-host", "A100")
T4 = FixedGpu("0000:af:00.0", 0x10DE, 0x1EB8, "5f1c-host", "T4")
HIGH = FixedGpu("0000:d8:00.0", 0x10DE, 0xA0B5, "5f1c-host", "card with a high id")


def _config(devices: list[Any] | None = None, **fields: Any) -> Any:
    """A vim.vm.ConfigInfo as a fresh clone of a plain template has it."""
    base: dict[str, Any] = {
        "memoryReservationLockedToMax": False,
        "annotation": "",
        "firmware": "efi",
        "extraConfig": [],
        "memoryAllocation": vim.ResourceAllocationInfo(reservation=0),
        "hardware": vim.vm.VirtualHardware(numCPU=2, memoryMB=4096, device=devices or []),
    }
    return vim.vm.ConfigInfo(**{**base, **fields})


def _card(key: int, port: Port) -> Any:
    return vm_spec.adapter_device(Adapter(port), key)


def test_one_spec_carries_everything() -> None:
    wanted = Hardware(
        cpus=16,
        memory_mib=131072,
        gpus=(A100, T4),
        adapters=(Adapter(LAN), Adapter(RDMA, "rocev2")),
        options={"pciPassthru.use64bitMMIO": "TRUE", "pciPassthru.64bitMMIOSizeGB": "256"},
        annotation="ours",
    )
    spec, changes = difference("server", wanted, _config([_card(4000, STANDARD)], cpuHotAddEnabled=True))
    assert spec is not None
    assert (spec.numCPUs, spec.memoryMB) == (16, 131072)
    assert spec.memoryReservationLockedToMax is True
    assert spec.memoryAllocation.reservation == 131072
    assert (spec.cpuHotAddEnabled, spec.memoryHotAddEnabled, spec.nestedHVEnabled) == (False, None, None)
    assert {o.key: o.value for o in spec.extraConfig} == wanted.options
    assert spec.annotation == "ours"
    operations = [(change.operation, type(change.device).__name__, change.device.key) for change in spec.deviceChange]
    assert operations == [
        ("add", "vim.vm.device.VirtualPCIPassthrough", -100),
        ("add", "vim.vm.device.VirtualPCIPassthrough", -101),
        ("edit", "vim.vm.device.VirtualVmxnet3", 4000),
        ("add", "vim.vm.device.VirtualVmxnet3Vrdma", -102),
    ]
    first = spec.deviceChange[0].device.backing
    assert (first.id, first.deviceId, first.vendorId, first.systemId) == ("0000:3b:00.0", "20b5", 0x10DE, "5f1c-host")
    rdma = spec.deviceChange[3].device
    assert (rdma.deviceProtocol, rdma.backing.port.switchUuid, rdma.backing.port.portgroupKey) == (
        "rocev2",
        "50 02",
        "dvportgroup-2",
    )
    assert "GPU: A100 at 0000:3b:00.0" in "; ".join(map(str, changes))


def _settled(wanted: Hardware) -> Any:
    """The ConfigInfo after `wanted` has been applied, keys as vCenter gives them."""
    devices = [vm_spec.gpu_device(gpu, 13000 + n) for n, gpu in enumerate(wanted.gpus)]
    devices += [vm_spec.adapter_device(adapter, 4000 + n) for n, adapter in enumerate(wanted.adapters)]
    return _config(
        devices,
        memoryReservationLockedToMax=True,
        memoryAllocation=vim.ResourceAllocationInfo(reservation=wanted.memory_mib),
        hardware=vim.vm.VirtualHardware(numCPU=wanted.cpus, memoryMB=wanted.memory_mib, device=devices),
        extraConfig=[vim.option.OptionValue(key=k, value=v) for k, v in wanted.options.items()],
        annotation=wanted.annotation,
    )


gpus = st.one_of(
    st.permutations([A100, T4, HIGH]).flatmap(lambda cards: st.integers(0, 3).map(lambda n: tuple(cards[:n]))),
    st.lists(
        st.builds(DynamicGpu, st.just(0x10DE), st.sampled_from([0x20B5, 0xA0B5]), label=st.sampled_from(["", "pool"])),
        max_size=3,
    ).map(tuple),
)
hardware = st.builds(
    Hardware,
    cpus=st.integers(1, 64),
    memory_mib=st.integers(1, 512).map(lambda gib: gib * 1024),
    gpus=gpus,
    adapters=st.sampled_from(
        [(), (Adapter(LAN),), (Adapter(STANDARD), Adapter(RDMA, "rocev2")), (Adapter(LAN), Adapter(RDMA, "rocev1"))]
    ),
    options=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "1", "TRUE"])),
    annotation=st.sampled_from(["", "ours"]),
)


@given(hardware)
def test_what_is_as_wanted_needs_no_change(wanted: Hardware) -> None:
    assert difference("server", wanted, _settled(wanted)) == (None, ())


@given(hardware, hardware)
def test_the_difference_touches_each_device_once_with_distinct_new_keys(before: Hardware, after: Hardware) -> None:
    spec, changes = difference("server", after, _settled(before))
    assert (spec is None) == (not changes)
    if spec is None:
        return
    keys = [change.device.key for change in spec.deviceChange]
    assert len(set(keys)) == len(keys)
    for change in spec.deviceChange:
        assert (change.device.key < 0) == (change.operation == "add")
    count = len(before.gpus)
    for change in spec.deviceChange:
        if isinstance(change.device, vim.vm.device.VirtualPCIPassthrough):
            count += 1 if change.operation == "add" else -1
    assert count == len(after.gpus)


@given(hardware)
def test_devices_read_back_as_what_they_were_made_from(wanted: Hardware) -> None:
    for number, gpu in enumerate(wanted.gpus):
        assert vm_spec.gpu_of(vm_spec.gpu_device(gpu, -100 - number)) == gpu


def test_ids_above_0x7fff() -> None:
    """Signed where the type is a short, unsigned where it is an int, hex text without padding."""
    fixed = vm_spec.gpu_device(FixedGpu("0000:3b:00.0", 0x90DE, 0xA0B5, "s"), -100).backing
    assert (fixed.vendorId, fixed.deviceId) == (0x90DE - 0x10000, "a0b5")
    dynamic = vm_spec.gpu_device(DynamicGpu(0x90DE - 0x10000, 0xA0B5 - 0x10000), -100).backing.allowedDevice[0]
    assert (dynamic.vendorId, dynamic.deviceId) == (0x90DE, 0xA0B5)


def test_a_card_of_another_host_is_replaced() -> None:
    """The same address with another system id is another host's device."""
    moved = FixedGpu(A100.address, A100.vendor_id, A100.device_id, "other-host", A100.name)
    spec, _ = difference("server", Hardware(2, 4096, (moved,)), _settled(Hardware(2, 4096, (A100,))))
    assert spec is not None
    assert [change.operation for change in spec.deviceChange] == ["remove", "add"]


def test_a_clone_of_a_machine_with_devices_loses_those_not_wanted() -> None:
    spec, changes = difference(
        "server", Hardware(2, 4096), _settled(Hardware(2, 4096, (A100,), (Adapter(RDMA, "rocev2"),)))
    )
    assert spec is not None
    assert [change.operation for change in spec.deviceChange] == ["remove", "remove"]
    assert len(changes) == 2


def test_long_option_values_are_not_shown() -> None:
    _, changes = difference("s", Hardware(2, 4096, options={"guestinfo.userdata": "secret" * 20}), _config())
    assert "secret" not in " ".join(map(str, changes))
    assert "(120 bytes)" in " ".join(map(str, changes))


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        (Hardware(1, 4096, (A100,)), 13),
        (Hardware(1, 4096, (DynamicGpu(0x10DE, 0x20B5),)), 17),
        (Hardware(1, 4096, (A100,), (Adapter(RDMA, "rocev2"),)), 13),
        (Hardware(1, 4096, (DynamicGpu(0x10DE, 0x20B5),), (Adapter(RDMA, "rocev2"),)), 17),
    ],
)
def test_minimum_hardware_version(wanted: Hardware, version: int) -> None:
    assert wanted.minimum_version == version


@pytest.mark.parametrize(
    "fields",
    [
        {"cpus": 0},
        {"memory_mib": 1022},
        {"gpus": (A100, A100)},
        {"gpus": (DynamicGpu(0x10DE, 1),) * 17},
        {"adapters": (Adapter(STANDARD, "rocev2"),)},
        {"adapters": (Adapter(RDMA, "infiniband"),)},
    ],
)
def test_hardware_that_cannot_be(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Hardware(**{"cpus": 1, "memory_mib": 4096, **fields})


@pytest.mark.parametrize(("framebuffers", "advised"), [([16384], 24576), ([81920, 81920], 245760), ([4096], 8192)])
def test_memory_advice(framebuffers: list[int], advised: int) -> None:
    assert vm_spec.advised_memory_mib(framebuffers) == advised
    assert vm_spec.memory_warning(advised, framebuffers) == ""
    assert "1.5 times" in vm_spec.memory_warning(sum(framebuffers), framebuffers)
    assert vm_spec.advised_memory_mib(framebuffers, 1024) == 1024
