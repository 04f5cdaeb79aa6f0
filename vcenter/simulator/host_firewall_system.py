"""HostFirewallSystem: the rule sets of a host's firewall."""

from typing import Any

from .api import vim
from .managed_object import Call, Managed, derived, method
from .values import build
from .world import World

_RULESETS = {
    "sshServer": ("SSH Server", True, ((22, "tcp", "inbound"),)),
    "nfsClient": ("NFS Client", False, ((2049, "tcp", "outbound"),)),
    "vMotion": ("vMotion", True, ((8000, "tcp", "inbound"), (8000, "tcp", "outbound"))),
    "vSphereClient": ("vSphere Web Client", True, ((443, "tcp", "inbound"), (902, "tcp", "inbound"))),
    "pvrdma": ("pvrdma", False, ((28250, "tcp", "inbound"), (28250, "tcp", "outbound"))),
    "ntpClient": ("NTP Client", True, ((123, "udp", "outbound"),)),
}


class HostFirewallSystem(Managed):
    """The firewall of a host."""

    kind = vim.host.FirewallSystem

    def __init__(self, world: World, host: Any) -> None:
        super().__init__(world, f"firewallSystem-{host.moid}")
        self.owner = self.host = host
        self.enabled = {key: enabled for key, (_, enabled, _) in _RULESETS.items()}
        self.allowed: dict[str, Any] = {}

    @derived()
    def firewallInfo(self) -> Any:
        """All rule sets."""
        return build(
            vim.host.FirewallInfo,
            defaultPolicy=build(vim.host.FirewallInfo.DefaultPolicy, incomingBlocked=True, outgoingBlocked=True),
            ruleset=[
                build(
                    vim.host.Ruleset,
                    key=key,
                    label=label,
                    required=False,
                    rule=[
                        build(vim.host.Ruleset.Rule, port=port, protocol=protocol, direction=direction, portType="dst")
                        for port, protocol, direction in rules
                    ],
                    enabled=self.enabled[key],
                    allowedHosts=self.allowed.get(key, build(vim.host.Ruleset.IpList, allIp=True)),
                )
                for key, (label, _, rules) in _RULESETS.items()
            ],
        )

    def _switch(self, key: str, enabled: bool) -> None:
        self.host.demand_connected()
        if key not in self.enabled:
            raise vim.fault.NotFound(msg=f"There is no firewall rule set {key} on {self.host.name}")
        self.enabled[key] = enabled
        self._tell()

    def _tell(self) -> None:
        self.changed("firewallInfo")
        self.host.changed("_firewall")

    @method
    def EnableRuleset(self, call: Call, id: str) -> None:
        """Opens what a rule set names."""
        self._switch(id, True)

    @method
    def DisableRuleset(self, call: Call, id: str) -> None:
        """Closes it again."""
        self._switch(id, False)

    @method
    def UpdateRuleset(self, call: Call, id: str, spec: Any) -> None:
        """Whom a rule set lets in."""
        self._switch(id, self.enabled.get(id, False))
        self.allowed[id] = spec.allowedHosts
        self._tell()

    @method
    def RefreshFirewall(self, call: Call) -> None:
        """Everything is always up to date here."""
