"""The account of one lease on this server: what its sessions hold of each slice, and what they have cost.

One piece of shared memory (a memfd) that the daemon makes and every worker of the lease maps (`worker/account.h`). Each
session has a slot that its worker alone writes; the daemon reads them all, and clears the slot of a worker that has
ended, however it ended: what a crashed worker held comes back with it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass, field

SLOTS = 256
"""Sessions of one lease at most."""
DEVICES = 16
COUNTERS = ("calls", "launches", "round_trips", "bytes_in", "bytes_out")
_SLOT = struct.Struct(f"<{8 + DEVICES}Q")  # process, counters, spare, bytes of each GPU
_USED_AT = 8
SIZE = SLOTS * _SLOT.size


class AccountFullError(RuntimeError):
    """The lease has as many sessions as one may have; the message says how many."""


@dataclass
class Cost:
    """What sessions have cost: requests, launches among them, requests that the client waited for, and bytes."""

    calls: int = 0
    launches: int = 0
    round_trips: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, other: Cost) -> None:
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in COUNTERS}


@dataclass
class SliceAccount:
    """Close it when the lease's last session has ended."""

    ended: Cost = field(default_factory=Cost)  # of the sessions that are no more

    def __post_init__(self) -> None:
        self.descriptor = os.memfd_create("gpuferry-slice", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, SIZE)
        # A worker that shrank it would end its siblings by SIGBUS.
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._memory = mmap.mmap(self.descriptor, SIZE)
        self._taken: set[int] = set()

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)

    def open_slot(self) -> int:
        """A slot for a new session. Raises AccountFullError."""
        for slot in range(SLOTS):
            if slot not in self._taken:
                self._taken.add(slot)
                return slot
        raise AccountFullError(f"the lease has {SLOTS} sessions, and no lease may have more")

    def close_slot(self, slot: int) -> Cost:
        """The session's worker is gone: what it held is free. Returns what it cost."""
        cost = self.cost(slot)
        self.ended.add(cost)
        self._memory[slot * _SLOT.size : (slot + 1) * _SLOT.size] = bytes(_SLOT.size)
        self._taken.discard(slot)
        return cost

    def _read(self, slot: int) -> tuple[int, ...]:
        return _SLOT.unpack_from(self._memory, slot * _SLOT.size)

    def cost(self, slot: int) -> Cost:
        """What a live session has cost so far."""
        return Cost(*self._read(slot)[1 : 1 + len(COUNTERS)])

    def used(self, slot: int) -> tuple[int, ...]:
        """Bytes that a live session holds of each GPU of the lease."""
        return self._read(slot)[_USED_AT:]

    def total_used(self) -> tuple[int, ...]:
        """Bytes that all sessions hold together of each GPU of the lease."""
        return tuple(map(sum, zip(*(self.used(slot) for slot in self._taken), strict=True))) or (0,) * DEVICES

    def total_cost(self) -> Cost:
        """What the lease's sessions have cost, those that have ended included."""
        total = Cost()
        total.add(self.ended)
        for slot in self._taken:
            total.add(self.cost(slot))
        return total

    @property
    def sessions(self) -> int:
        return len(self._taken)


MOST_PROGRAMS = 1000


class History:
    """What sessions have cost, by the name of their program; beyond MOST_PROGRAMS names under `(others)`."""

    def __init__(self) -> None:
        self._programs: dict[str, tuple[int, Cost]] = {}

    def add(self, program: str, cost: Cost, sessions: int = 1) -> None:
        if program not in self._programs and len(self._programs) >= MOST_PROGRAMS:
            program = "(others)"
        count, total = self._programs.get(program, (0, Cost()))
        total.add(cost)
        self._programs[program] = (count + sessions, total)

    def joined(self, other: History) -> dict[str, dict[str, int]]:
        """Both together: program → sessions and counters."""
        both = History()
        for each in (self, other):
            for program, (count, cost) in each._programs.items():
                both.add(program, cost, count)
        return {program: {"sessions": n, **cost.as_dict()} for program, (n, cost) in both._programs.items()}
