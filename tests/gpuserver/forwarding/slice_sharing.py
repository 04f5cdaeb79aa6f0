"""One process of several that share a lease: `python slice_sharing.py`, then one command a line on standard input.

Commands: `take WAY` (pieces of 2 MiB until there are no more; answers how many, and the error that ended it),
`free N`, `one` (one piece more; answers the error), `info` (free and total MiB), `check` (writes to every piece and
waits; answers the error), `quit`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

from driver_api import Driver

PIECE = 2 << 20


class PhysicalProperty(ctypes.Structure):
    """CUmemAllocationProp of device 0's pinned memory."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("where", ctypes.c_int),
        ("id", ctypes.c_int),
        ("rest", ctypes.c_char * 64),
    )


class Sharer:
    def __init__(self) -> None:
        self.driver = Driver()
        self.pieces: list[tuple[str, int]] = []
        self.ways: dict[str, Callable[[ctypes.c_uint64], int]] = {
            "plain": lambda place: self.driver.call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(PIECE)),
            "pitch": self._take_pitch,
            "pool": lambda place: self.driver.call(
                "cuMemAllocAsync", ctypes.byref(place), ctypes.c_size_t(PIECE), None
            ),
            "managed": lambda place: self.driver.call(
                "cuMemAllocManaged", ctypes.byref(place), ctypes.c_size_t(PIECE), 1
            ),
            "physical": self._take_physical,
            "array": self._take_array,
        }

    def _take_pitch(self, place: ctypes.c_uint64) -> int:
        pitch = ctypes.c_size_t()
        row = ctypes.c_size_t(2048)
        return self.driver.call(
            "cuMemAllocPitch_v2", ctypes.byref(place), ctypes.byref(pitch), row, ctypes.c_size_t(PIECE // 2048), 4
        )

    def _take_physical(self, place: ctypes.c_uint64) -> int:
        wanted = PhysicalProperty(1, 0, 1, 0, b"")
        return self.driver.call(
            "cuMemCreate", ctypes.byref(place), ctypes.c_size_t(PIECE), ctypes.byref(wanted), ctypes.c_uint64(0)
        )

    def _take_array(self, place: ctypes.c_uint64) -> int:
        class Descriptor(ctypes.Structure):
            _fields_ = (
                ("width", ctypes.c_size_t),
                ("height", ctypes.c_size_t),
                ("format", ctypes.c_int),
                ("channels", ctypes.c_uint),
            )

        floats = 0x20  # CU_AD_FORMAT_FLOAT
        return self.driver.call("cuArrayCreate_v2", ctypes.byref(place), ctypes.byref(Descriptor(1024, 512, floats, 1)))

    def take(self, way: str, most: int = 1 << 20) -> str:
        count = result = 0
        while count < most:
            place = ctypes.c_uint64()
            result = self.ways[way](place)
            if result:
                break
            self.pieces.append((way, place.value))
            count += 1
        return f"{count} {result}"

    def free(self, count: int) -> str:
        release = {"physical": "cuMemRelease", "array": "cuArrayDestroy"}
        for _ in range(count):
            way, place = self.pieces.pop()
            self.driver.ok(release.get(way, "cuMemFree_v2"), ctypes.c_uint64(place))
        return "freed"

    def info(self) -> str:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.driver.ok("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return f"{free.value >> 20} {total.value >> 20}"

    def check(self) -> str:
        for way, place in self.pieces:
            if way in ("plain", "pitch", "pool"):
                self.driver.ok("cuMemsetD8_v2", ctypes.c_uint64(place), 1, ctypes.c_size_t(PIECE))
        return str(self.driver.call("cuCtxSynchronize"))


def main() -> None:
    sharer = Sharer()
    print("ready", flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "quit":
            return
        if command == "take":
            print(sharer.take(arguments[0]), flush=True)
        elif command == "one":
            print(sharer.take(arguments[0], 1), flush=True)
        elif command == "free":
            print(sharer.free(int(arguments[0])), flush=True)
        elif command == "info":
            print(sharer.info(), flush=True)
        elif command == "check":
            print(sharer.check(), flush=True)


if __name__ == "__main__":
    main()
