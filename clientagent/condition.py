"""What this client VM can say of its own health: measured facts for the appliance's checks. Python 3.9."""

from __future__ import annotations

import mmap
import re
import resource
import shutil
from pathlib import Path
from typing import Iterator, Tuple

from clientagent.program import RunError, find_shim
from gpuserver.protocol.control.messages import Observation
from gpuserver.protocol.version import own_version

_MARK = re.compile(rb"gpuferry-shim-version=([0-9A-Za-z.+-]+);")


def observe() -> Tuple[Observation, ...]:
    """Everything that can be measured here and now."""
    return tuple(_observed())


def _observed() -> Iterator[Observation]:
    yield Observation("disk.free", str(shutil.disk_usage(Path.home()).free >> 20))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Observation("client.files", str(files))
    yield Observation("rdma.link", rdma_state())
    yield Observation("shim.version", f"{shim_version()}/{own_version()}")


def shim_version() -> str:
    """The version in the CUDA library that programs here load, found without loading it; `missing` without one."""
    try:
        path = find_shim() / "libcuda.so.1"
        with open(path, "rb") as library, mmap.mmap(library.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = _MARK.search(content)
            return found[1].decode() if found else "unknown"
    except (RunError, OSError, ValueError):
        return "missing"


def rdma_state(root: Path = Path("/sys/class/infiniband")) -> str:
    """`active`, `none` without an adapter, or the kernel's word for the state of the first link that is not active."""
    states = [path.read_text().strip() for path in sorted(root.glob("*/ports/*/state"))]
    for state in states:
        if not state.endswith("ACTIVE"):
            return state.rpartition(" ")[2].lower()
    return "active" if states else "none"
