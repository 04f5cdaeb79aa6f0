"""OptionManager: advanced settings, of a host or of vCenter itself."""

from typing import Any

from .api import support, vim
from .managed_object import Call, Managed, derived, invalid_argument, method
from .values import build
from .world import World

_HOST_SETTINGS: dict[str, Any] = {
    "Net.PVRDMAVmknic": "",
    "Net.TcpipHeapSize": support.long(0),
    "Misc.PreferredHostName": "",
    "UserVars.SuppressShellWarning": support.long(0),
    "VMkernel.Boot.disableACSCheck": False,
    "Config.HostAgent.plugins.solo.enableMob": False,
}
_VCENTER_SETTINGS: dict[str, Any] = {
    "VirtualCenter.InstanceName": "vcenter.example.test",
    "config.vpxd.event.maxAge": 30,
}


class OptionManager(Managed):
    """Named settings; a name that is not there yet is refused, as vCenter refuses it."""

    kind = vim.option.OptionManager

    def __init__(self, world: World, moid: str, settings: dict[str, Any] | None = None) -> None:
        super().__init__(world, moid)
        self.settings = dict(_VCENTER_SETTINGS if settings is None else settings)

    @derived()
    def setting(self) -> Any:
        """All settings."""
        return [build(vim.option.OptionValue, key=key, value=value) for key, value in self.settings.items()]

    @derived()
    def supportedOption(self) -> Any:
        """What may be set."""
        return [
            build(
                vim.option.OptionDef,
                key=key,
                label=key,
                summary=key,
                optionType=_option_type(value),
            )
            for key, value in self.settings.items()
        ]

    @method
    def QueryOptions(self, call: Call, name: str | None) -> Any:
        """One setting, or all that start with a prefix ending in a dot, or all."""
        found = [
            each
            for each in self.get("setting")
            if not name or each.key == name or (name.endswith(".") and each.key.startswith(name))
        ]
        if not found:
            raise vim.fault.InvalidName(name=name, msg=f"There is no setting {name}.")
        return found

    @method
    def UpdateOptions(self, call: Call, changedValue: Any) -> None:
        """Changes settings, all of them or none."""
        self._demand(call)
        for each in changedValue:
            held = self.settings.get(each.key)
            if held is None:
                raise vim.fault.InvalidName(name=each.key, msg=f"There is no setting {each.key}.")
            if isinstance(held, str) != isinstance(each.value, str):
                raise invalid_argument("changedValue", f"{each.key} takes a {type(held).__name__}.")
        self.settings.update({each.key: each.value for each in changedValue})
        self.tell()

    def _demand(self, call: Call) -> None:
        """Asks for what changing these settings needs."""

    def tell(self) -> None:
        """Says that settings have changed."""
        self.changed("setting")


class HostOptionManager(OptionManager):
    """The advanced settings of a host."""

    def __init__(self, world: World, host: Any) -> None:
        super().__init__(world, f"EsxHostAdvSettings-{host.moid}", _HOST_SETTINGS)
        self.owner = self.host = host

    def _demand(self, call: Call) -> None:
        self.host.demand_connected()
        if call.session is not None:
            rights: Any = self.world.objects["AuthorizationManager"]
            rights.demand(call.session, self.host.ref, "Host.Config.AdvancedConfig")

    def tell(self) -> None:
        super().tell()
        self.host.changed("_options")


def _option_type(value: Any) -> Any:
    if isinstance(value, bool):
        return build(vim.option.BoolOption, valueIsReadonly=False, supported=True, defaultValue=value)
    if isinstance(value, int):
        return build(vim.option.LongOption, valueIsReadonly=False, min=0, max=(1 << 63) - 1, defaultValue=int(value))
    return build(vim.option.StringOption, valueIsReadonly=False, defaultValue=value)
