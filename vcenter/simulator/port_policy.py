"""What ports of a distributed switch do when nobody has changed it (VMwareDVSPortSetting's defaults)."""

from typing import Any

from .api import vim
from .values import build

_switch: Any = vim.dvs.VmwareDistributedVirtualSwitch


def _flag(value: bool) -> Any:
    return build(vim.BoolPolicy, inherited=False, value=value)


def default_port_config(vlan: int, uplinks: list[str]) -> Any:
    """Traffic as the vSphere client sets it up: forged transmits, promiscuous mode and MAC changes refused."""
    return build(
        _switch.VmwarePortConfigPolicy,
        blocked=_flag(False),
        vlan=build(_switch.VlanIdSpec, vlanId=vlan, inherited=False),
        uplinkTeamingPolicy=build(
            _switch.UplinkPortTeamingPolicy,
            inherited=False,
            policy=build(vim.StringPolicy, inherited=False, value="loadbalance_srcid"),
            reversePolicy=_flag(True),
            notifySwitches=_flag(True),
            rollingOrder=_flag(False),
            uplinkPortOrder=build(
                _switch.UplinkPortOrderPolicy, inherited=False, activeUplinkPort=uplinks, standbyUplinkPort=[]
            ),
        ),
        securityPolicy=build(
            _switch.SecurityPolicy,
            inherited=False,
            allowPromiscuous=_flag(False),
            macChanges=_flag(False),
            forgedTransmits=_flag(False),
        ),
        macManagementPolicy=build(
            _switch.MacManagementPolicy,
            inherited=False,
            allowPromiscuous=False,
            macChanges=False,
            forgedTransmits=False,
            macLearningPolicy=build(
                _switch.MacLearningPolicy, inherited=False, enabled=False, allowUnicastFlooding=True, limit=4096
            ),
        ),
        ipfixEnabled=_flag(False),
        txUplink=_flag(False),
    )


def default_portgroup_policy() -> Any:
    """Which of these a single port may override."""
    names = (
        "vlanOverrideAllowed",
        "uplinkTeamingOverrideAllowed",
        "securityPolicyOverrideAllowed",
        "ipfixOverrideAllowed",
        "shapingOverrideAllowed",
        "vendorConfigOverrideAllowed",
        "networkResourcePoolOverrideAllowed",
        "trafficFilterOverrideAllowed",
    )
    return build(
        _switch.VMwarePortgroupPolicy,
        blockOverrideAllowed=True,
        livePortMovingAllowed=False,
        portConfigResetAtDisconnect=True,
        **dict.fromkeys(names, False),
    )
