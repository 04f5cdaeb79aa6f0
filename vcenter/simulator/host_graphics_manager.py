"""HostGraphicsManager: how the host's own graphics driver uses the GPUs that are not passed through."""

from typing import Any

from .api import vim
from .managed_object import Call, Managed, derived, invalid_argument, method
from .values import build
from .world import World


class HostGraphicsManager(Managed):
    """The graphics part of a host."""

    kind = vim.host.GraphicsManager

    def __init__(self, world: World, host: Any) -> None:
        super().__init__(world, f"graphicsManager-{host.moid}")
        self.owner = self.host = host
        self.default = "shared"
        self.policy = "performance"
        self.configured: dict[str, str] = {}
        self.active: dict[str, str] = {}

    def shared_direct(self, address: str) -> bool:
        """Whether the host shares a GPU out as virtual GPUs."""
        return self.active.get(address, self.default) == "sharedDirect"

    @derived()
    def graphicsInfo(self) -> Any:
        """The GPUs the host's driver has: one that is passed through is not among them, nor is its memory size."""
        return [
            build(
                vim.host.GraphicsInfo,
                deviceName=slot.device.deviceName,
                vendorName=slot.device.vendorName,
                pciId=address,
                graphicsType=self.active.get(address, self.default),
                memorySizeInKB=slot.gpu.memory_mib << 10,
            )
            for address, slot in self.host.passthrough.slots.items()
            if slot.gpu is not None and not slot.active
        ]

    @derived()
    def graphicsConfig(self) -> Any:
        """What is configured."""
        return build(
            vim.host.GraphicsConfig,
            hostDefaultGraphicsType=self.default,
            sharedPassthruAssignmentPolicy=self.policy,
            deviceType=[
                build(vim.host.GraphicsConfig.DeviceType, deviceId=address, graphicsType=kind)
                for address, kind in self.configured.items()
            ],
        )

    @method
    def RefreshGraphicsManager(self, call: Call) -> None:
        """Looks at the hardware anew."""
        self.host.demand_connected()

    @method
    def IsSharedGraphicsActive(self, call: Call) -> bool:
        """Whether the shared graphics service runs."""
        return True

    @method
    def UpdateGraphicsConfig(self, call: Call, config: Any) -> None:
        """Configures graphics types; they take effect when the service ``xorg`` restarts or the host boots."""
        self.host.demand_connected()
        kinds = {"basic", "shared", "sharedDirect"}
        if config.hostDefaultGraphicsType not in kinds or any(
            each.graphicsType not in kinds for each in config.deviceType
        ):
            raise invalid_argument("config", "There is no such graphics type.")
        for each in config.deviceType:
            if each.deviceId not in self.host.passthrough.slots:
                raise invalid_argument("config.deviceType", f"There is no device {each.deviceId}.")
        self.default = str(config.hostDefaultGraphicsType)
        self.policy = str(config.sharedPassthruAssignmentPolicy)
        self.configured.update({each.deviceId: str(each.graphicsType) for each in config.deviceType})
        self.tell()

    def restart(self) -> None:
        """The service restarts: what is configured takes effect."""
        self.active = dict(self.configured)
        self.tell()

    def tell(self) -> None:
        """Says that graphics have changed."""
        self.changed("graphicsConfig")
        self.changed("graphicsInfo")
        self.host.changed("_graphics")
