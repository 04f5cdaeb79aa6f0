"""DRS and HA settings of one VM in its cluster, fit for passthrough.

DRS must not try to move a VM with a passed-through device. HA cannot restart one with fixed devices elsewhere; one with
dynamic devices it may, where the same devices exist, so that one keeps the cluster's setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from vcenter.collector import read
from vcenter.plan import Change
from vcenter.session import Session
from vcenter.tasks import Progress, silent, wait_for_task

_PATHS = ("configurationEx",)


@dataclass(frozen=True)
class Rules:
    """`drs_off`: DRS leaves the VM alone. `ha_off`: HA does not restart it."""

    drs_off: bool = True
    ha_off: bool = False


def rules_for(dynamic: bool) -> Rules:
    """What fits a server with dynamic, or else fixed, passthrough devices."""
    return Rules(drs_off=True, ha_off=not dynamic)


def plan_rules(
    session: Session, cluster: Any, vm: Any, name: str, wanted: Rules
) -> tuple[Any | None, tuple[Change, ...]]:
    """The cluster's ConfigSpec that gives a VM these settings, and the changes; (None, ()) when all is so already."""
    with session.doing("Reading the cluster's settings", name):
        configuration = read(session, cluster, *_PATHS).get("configurationEx")
    spec: Any = vim.cluster.ConfigSpecEx()
    changes = []
    drs = _entry(configuration, "drsVmConfig", vm)
    if bool(drs is not None and drs.enabled is False) != wanted.drs_off:
        info = vim.cluster.DrsVmConfigInfo(key=vm, enabled=not wanted.drs_off)
        spec.drsVmConfigSpec = [vim.cluster.DrsVmConfigSpec(operation="add" if drs is None else "edit", info=info)]
        changes.append(Change(name, "DRS", *_words(drs is not None and drs.enabled is False, wanted.drs_off)))
    ha = _entry(configuration, "dasVmConfig", vm)
    off = bool(ha is not None and ha.dasSettings is not None and ha.dasSettings.restartPriority == "disabled")
    if off != wanted.ha_off:
        priority = "disabled" if wanted.ha_off else "clusterRestartPriority"
        settings = vim.cluster.DasVmSettings(restartPriority=priority)
        restart = vim.cluster.DasVmConfigInfo(key=vm, dasSettings=settings)
        spec.dasVmConfigSpec = [vim.cluster.DasVmConfigSpec(operation="add" if ha is None else "edit", info=restart)]
        changes.append(Change(name, "HA restart", *_words(off, wanted.ha_off)))
    return (spec, tuple(changes)) if changes else (None, ())


def _words(before_off: bool, after_off: bool) -> tuple[str, str]:
    return ("off" if before_off else "as the cluster", "off" if after_off else "as the cluster")


def _entry(configuration: Any, field: str, vm: Any) -> Any:
    for entry in getattr(configuration, field, None) or []:
        if entry.key is not None and entry.key._moId == vm._moId:
            return entry
    return None


def apply_rules(session: Session, cluster: Any, spec: Any, name: str, progress: Progress = silent) -> None:
    """Carries the spec of `plan_rules` out; nothing happens for None."""
    if spec is None:
        return
    with session.doing("Setting DRS and HA", name):
        task = cluster.ReconfigureComputeResource_Task(spec, True)
    wait_for_task(session, task, "Setting DRS and HA", name, progress=progress, step="DRS and HA")
