"""HostServiceSystem: the host's services; restarting ``xorg`` makes a new graphics configuration take effect."""

from typing import Any

from .api import vim
from .managed_object import Call, Managed, derived, method
from .values import build
from .world import World

_SERVICES = {
    "TSM-SSH": ("SSH", False),
    "TSM": ("ESXi Shell", False),
    "ntpd": ("NTP Daemon", True),
    "xorg": ("X.Org Server", True),
}


class HostServiceSystem(Managed):
    """The services of a host."""

    kind = vim.host.ServiceSystem

    def __init__(self, world: World, host: Any) -> None:
        super().__init__(world, f"serviceSystem-{host.moid}")
        self.owner = self.host = host
        self.running = {key: running for key, (_, running) in _SERVICES.items()}
        self.policies = dict.fromkeys(_SERVICES, "off")

    @derived()
    def serviceInfo(self) -> Any:
        """All services."""
        return build(
            vim.host.ServiceInfo,
            service=[
                build(
                    vim.host.Service,
                    key=key,
                    label=label,
                    required=False,
                    uninstallable=False,
                    running=self.running[key],
                    policy=self.policies[key],
                )
                for key, (label, _) in _SERVICES.items()
            ],
        )

    def _known(self, key: str) -> None:
        self.host.demand_connected()
        if key not in _SERVICES:
            raise vim.fault.NotFound(msg=f"There is no service {key} on {self.host.name}")

    def _tell(self) -> None:
        self.changed("serviceInfo")
        self.host.changed("_services")

    @method
    def StartService(self, call: Call, id: str) -> None:
        """Starts a service."""
        self._known(id)
        self.running[id] = True
        self._tell()

    @method
    def StopService(self, call: Call, id: str) -> None:
        """Stops a service."""
        self._known(id)
        self.running[id] = False
        self._tell()

    @method
    def RestartService(self, call: Call, id: str) -> None:
        """Stops and starts a service."""
        self._known(id)
        self.running[id] = True
        if id == "xorg":
            self.host.graphics.restart()
        self._tell()

    @method
    def UpdateServicePolicy(self, call: Call, id: str, policy: str) -> None:
        """Whether a service starts with the host."""
        self._known(id)
        self.policies[id] = policy
        self._tell()

    @method
    def RefreshServices(self, call: Call) -> None:
        """Everything is always up to date here."""
