"""ServiceInstance: the door to everything else, open before login."""

from typing import Any

from .api import vim
from .managed_object import Call, Managed, method
from .values import build, now
from .world import World

# Field of ServiceContent to the managed object id vCenter gives it; kept only where the object exists here.
_CONTENT = {
    "propertyCollector": "propertyCollector",
    "viewManager": "ViewManager",
    "setting": "VpxSettings",
    "sessionManager": "SessionManager",
    "authorizationManager": "AuthorizationManager",
    "eventManager": "EventManager",
    "taskManager": "TaskManager",
    "customFieldsManager": "CustomFieldsManager",
    "searchIndex": "SearchIndex",
    "fileManager": "FileManager",
    "virtualDiskManager": "virtualDiskManager",
    "ovfManager": "OvfManager",
    "dvSwitchManager": "DVSManager",
    "extensionManager": "ExtensionManager",
    "licenseManager": "LicenseManager",
    "perfManager": "PerfMgr",
    "alarmManager": "AlarmManager",
    "userDirectory": "UserDirectory",
    "customizationSpecManager": "CustomizationSpecManager",
    "guestOperationsManager": "guestOperationsManager",
    "storageResourceManager": "StorageResourceManager",
}
_BUILDS = {
    "9": ("9.1.0", "24957455"),
    "8": ("8.0.3", "24022515"),
    "7": ("7.0.3", "21477706"),
    "6": ("6.7.0", "14368073"),
}


def about(world: World, product: str = "vpx") -> Any:
    """AboutInfo of the vCenter (``vpx``) or of one of its hosts (``embeddedEsx``)."""
    number, build_number = _BUILDS[world.api_version[0]]
    vcenter = product == "vpx"
    name = "VMware vCenter Server" if vcenter else "VMware ESXi"
    return build(
        vim.AboutInfo,
        name=name,
        fullName=f"{name} {number} build-{build_number}",
        vendor="VMware, Inc.",
        version=number,
        build=build_number,
        localeVersion="INTL",
        localeBuild="000",
        osType="linux-x64" if vcenter else "vmnix-x86",
        productLineId=product,
        apiType="VirtualCenter" if vcenter else "HostAgent",
        apiVersion=world.api_version,
        instanceUuid=world.instance_uuid if vcenter else None,
        licenseProductName=f"VMware {'VirtualCenter' if vcenter else 'ESX'} Server",
        licenseProductVersion=f"{number[0]}.0",
    )


class ServiceInstance(Managed):
    """The root of the API."""

    kind = vim.ServiceInstance
    live_properties = frozenset({"serverClock", "content"})

    def __init__(self, world: World) -> None:
        super().__init__(
            world,
            "ServiceInstance",
            capability=build(
                vim.Capability, provisioningSupported=True, multiHostSupported=True, userShellAccessSupported=False
            ),
        )

    def live(self, name: str) -> Any:
        """``serverClock`` is the time now; ``content`` names what exists."""
        return now() if name == "serverClock" else self._content()

    def _content(self) -> Any:
        held = self.world.objects
        return build(
            vim.ServiceInstanceContent,
            rootFolder=held["group-d1"].ref,
            about=about(self.world),
            **{name: held[moid].ref for name, moid in _CONTENT.items() if moid in held},
        )

    @method
    def RetrieveServiceContent(self, call: Call) -> Any:
        """The references to all managers."""
        return self._content()

    @method
    def CurrentTime(self, call: Call) -> Any:
        """The server's clock."""
        return now()
