"""Xid errors: what the NVIDIA driver tells the kernel's log of a GPU, `NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, ...`.

NVML reports only what happens while somebody waits for it; the kernel's log knows all since the machine's start. Where
it may not be read (`kernel.dmesg_restrict`, no CAP_SYSLOG), nothing is known, and nothing is said.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

KERNEL_LOG = Path("/dev/kmsg")
RECORD = 8192
"""The longest record of /dev/kmsg (kernel documentation, ABI/testing/dev-kmsg)."""
_LINE = re.compile(rb"NVRM: Xid \(PCI:([0-9a-fA-F]+):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.[0-7])?\): (\d+)")

Place = tuple[int, int, int]
"""PCI domain, bus and device."""


class XidReader:
    """Reads on where it stopped; `last` is what each GPU reported last."""

    def __init__(self, path: Path = KERNEL_LOG) -> None:
        self._last: dict[Place, int] = {}
        self._rest = b""
        self._file: int | None = None
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return

    def last(self) -> dict[Place, int] | None:
        """PCI place → the last Xid; None where the kernel's log cannot be read."""
        if self._file is None:
            return None
        while True:
            try:
                part = os.read(self._file, RECORD)
            except BrokenPipeError:
                continue  # records were overwritten before they were read; the next read gives the oldest there is
            except OSError:
                part = b""  # no more for now; or not to be read after all
            if not part:
                return dict(self._last)
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                self._note(line)

    def _note(self, line: bytes) -> None:
        found = _LINE.search(line)
        if found:
            domain, bus, device = (int(found[i], 16) for i in (1, 2, 3))
            self._last[domain, bus, device] = int(found[4])
