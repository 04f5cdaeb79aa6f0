"""Which vSphere API version each thing we use needs, and the gate that refuses to use it on an older one.

pyVmomi negotiates a version with the server and **silently leaves out** every field newer than it: a dynamic
passthrough device sent to an old vCenter becomes a plain one, with no error anywhere. So nothing below is sent
without asking here first. Versions are those that pyVmomi's type information gives for the field or type.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pyVmomi import VmomiSupport

from vcenter.errors import ApiTooOld


@dataclass(frozen=True)
class _Need:
    api: tuple[int, ...]
    what: str


class Feature(Enum):
    """A field or type of the vSphere API with the first version that has it."""

    PVRDMA_PROTOCOL = _Need((6, 7), "the PVRDMA adapter's protocol (RoCE v2)")
    RDMA_DEVICES = _Need((7, 0), "the host's list of RDMA devices")
    DYNAMIC_PASSTHROUGH = _Need((7, 0), "dynamic DirectPath I/O devices")
    PASSTHROUGH_APPLY_NOW = _Need((7, 0), "changing passthrough without a reboot")
    HARDWARE_LABEL = _Need((7, 0, 2), "hardware labels on passthrough devices")

    @property
    def first_version(self) -> str:
        return ".".join(map(str, self.value.api))

    @property
    def what(self) -> str:
        return str(self.value.what)


def parse(version: str) -> tuple[int, ...]:
    """`8.0.3.0` -> (8, 0, 3, 0). Anything that is not digits ends the number; "" is (0,)."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers) or (0,)


def has(api_version: str, feature: Feature) -> bool:
    """Whether a server that announces `api_version` knows the feature."""
    return _padded(parse(api_version)) >= _padded(feature.value.api)


def require(api_version: str, feature: Feature, object_name: str = "") -> None:
    """Raises ApiTooOld, naming both versions, unless the server knows the feature."""
    if not has(api_version, feature):
        raise ApiTooOld(
            f"This needs vSphere API {feature.first_version} or later: {feature.what}. "
            f"This vCenter announces {api_version}.",
            object_name=object_name,
        )


def _padded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (*numbers, 0, 0, 0, 0)[:4]


def negotiated(api_version: str) -> str:
    """pyVmomi's name of the newest version that both it and the server know; the server announces `api_version`."""
    announced = _padded(parse(api_version))
    best: tuple[tuple[int, ...], str] | None = None
    for key, name in VmomiSupport.versionMap.items():
        space, _, number = key.partition("/")
        if space != "vim25" or not number or not number.replace(".", "").isdigit():
            continue
        candidate = _padded(parse(number))
        if candidate <= announced and (best is None or candidate > best[0]):
            best = (candidate, str(name))
    if best is None:
        raise ApiTooOld(
            f"This vCenter announces vSphere API {api_version or '(none)'}, older than any that is supported."
        )
    return best[1]
