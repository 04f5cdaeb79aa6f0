"""Version gates: what an old vCenter would silently drop is refused with both versions named."""

import pytest
from pyVmomi import SoapAdapter, VmomiSupport, vim

from vcenter import versions
from vcenter.errors import ApiTooOld
from vcenter.versions import Feature


@pytest.mark.parametrize(
    ("announced", "negotiated"),
    [
        ("9.1.1.0", "vim.version.v9_1_1_0"),
        ("9.9.0.0", "vim.version.v9_1_1_0"),  # newer than pyVmomi knows
        ("8.0.3.0", "vim.version.v8_0_3_0"),
        ("8.0.3.7", "vim.version.v8_0_3_1"),
        ("7.0.2.0", "vim.version.v7_0_2_0"),
        ("6.7", "vim.version.version12"),
        ("6.5", "vim.version.version11"),
    ],
)
def test_negotiation(announced: str, negotiated: str) -> None:
    assert versions.negotiated(announced) == negotiated


@pytest.mark.parametrize("announced", ["", "0", "1.0", "what"])
def test_no_common_version(announced: str) -> None:
    with pytest.raises(ApiTooOld, match="announces"):
        versions.negotiated(announced)


@pytest.mark.parametrize(
    ("feature", "too_old", "enough"),
    [
        (Feature.PVRDMA_PROTOCOL, "6.5", "6.7"),
        (Feature.DYNAMIC_PASSTHROUGH, "6.7.3", "7.0.0.0"),
        (Feature.PASSTHROUGH_APPLY_NOW, "6.9.1", "7.0"),
        (Feature.HARDWARE_LABEL, "7.0.1.1", "7.0.2.0"),
        (Feature.RDMA_DEVICES, "6.7", "8.0.3.0"),
    ],
)
def test_gates(feature: Feature, too_old: str, enough: str) -> None:
    versions.require(enough, feature)
    with pytest.raises(ApiTooOld) as refused:
        versions.require(too_old, feature, "vc.example.org")
    assert too_old in str(refused.value)
    assert feature.first_version in str(refused.value)
    assert refused.value.object_name == "vc.example.org"


def _sent(version: str, value: object) -> str:
    return str(SoapAdapter.SerializeToStr(value, version=VmomiSupport.versionMap[version]))


@pytest.mark.parametrize(
    ("feature", "value", "field"),
    [
        (Feature.PVRDMA_PROTOCOL, vim.vm.device.VirtualVmxnet3Vrdma(key=-1, deviceProtocol="rocev2"), "deviceProtocol"),
        (
            Feature.PASSTHROUGH_APPLY_NOW,
            vim.host.PciPassthruConfig(id="x", passthruEnabled=True, applyNow=True),
            "applyNow",
        ),
        (
            Feature.HARDWARE_LABEL,
            vim.host.PciPassthruConfig(id="x", passthruEnabled=True, hardwareLabel="a"),
            "hardwareLabel",
        ),
    ],
)
def test_the_gate_agrees_with_what_pyvmomi_really_sends(feature: Feature, value: object, field: str) -> None:
    """Each gated field is on the wire exactly from the gate's version on: the reason why the gates exist."""
    for key in VmomiSupport.versionMap:
        space, _, number = key.partition("/")
        if space == "vim25" and number[0].isdigit() and versions.parse(number) >= (6, 0):
            assert (field in _sent(key, value)) == versions.has(number, feature), key
