"""Runs a plan of driver calls (`differential_plan.py`) and prints a line for each: `python differential_calls.py PLAN`.

Every call gets objects of its own, so that no call depends on what another did. What a call wrote where an integer
comes out is printed when it is small: handles and addresses are each side's own.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from driver_api import PTX, Driver

BUFFER = 8192
INTEGER = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
SMALL = 1 << 20
# What these write is a number of the side's own: an identity, a time, an amount that depends on the allocator.
OWN_NUMBERS = frozenset(
    [
        "cuCtxGetId",
        "cuStreamGetId",
        "cuGraphGetId",
        "cuGraphExecGetId",
        "cuGraphNodeGetLocalId",
        "cuGraphNodeGetToolsId",
        "cuMemGetInfo_v2",
        "cuEventElapsedTime_v2",
        "cuPointerGetAttribute",
        "cuPointerGetAttributes",
        "cuDriverGetVersion",
        "cuGreenCtxGetId",
        "cuLogsCurrent",
        "cuLogsDumpToMemory",
    ]
)


class Objects:
    """Makes the objects that calls are given, and ends them."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.fresh: dict[str, int] = {}
        self.library = self._library()
        self.stale: dict[str, int] = {}
        kinds = ("stream", "event", "graph", "graph_exec", "array", "memory_pool", "allocation", "module")
        for kind in (*kinds, "texture_reference"):
            self.begin()
            self.stale[kind] = self.get(kind)
            self.end()
        self.begin()
        self.stale["graph_node"] = self.get("graph_node")
        self.end()

    def _out(self, name: str, *arguments: Any, first: bool = True) -> int:
        place = ctypes.c_uint64()
        given = (ctypes.byref(place), *arguments) if first else (*arguments, ctypes.byref(place))
        self.driver.ok(name, *given)
        return place.value

    def _library(self) -> int:
        return self._out("cuLibraryLoadData", PTX, None, None, 0, None, None, 0)

    def begin(self) -> None:
        self.fresh = {}

    def get(self, kind: str) -> int:
        if kind not in self.fresh:
            self.fresh[kind] = self._make(kind)
        return self.fresh[kind]

    def _make(self, kind: str) -> int:
        c64 = ctypes.c_uint64
        if kind == "context":
            return int(self.driver.context.value or 0)
        if kind == "stream":
            return self._out("cuStreamCreate", 1)
        if kind == "event":
            return self._out("cuEventCreate", 0)
        if kind == "library":
            return self.library
        if kind == "module":
            return self._out("cuModuleLoadData", PTX)
        if kind == "function":
            return self._out("cuModuleGetFunction", c64(self.get("module")), b"add_one")
        if kind == "kernel":
            return self._out("cuLibraryGetKernel", c64(self.library), b"add_one")
        if kind == "graph":
            return self._out("cuGraphCreate", 0)
        if kind == "graph_node":
            return self._out("cuGraphAddEmptyNode", c64(self.get("graph")), None, ctypes.c_size_t(0))
        if kind == "graph_exec":
            self.get("graph_node")
            return self._out("cuGraphInstantiateWithFlags", c64(self.get("graph")), c64(0))
        if kind == "array":
            descriptor = (ctypes.c_uint64 * 3)(16, 16, 1 | 1 << 32)  # 16 x 16 bytes
            return self._out("cuArrayCreate_v2", descriptor)
        if kind == "memory_pool":
            properties = (ctypes.c_uint8 * 88)()
            properties[0], properties[8] = 1, 1  # pinned memory on device 0
            return self._out("cuMemPoolCreate", properties)
        if kind == "allocation":
            properties = (ctypes.c_uint8 * 32)()
            properties[0], properties[8] = 1, 1
            return self._out("cuMemCreate", ctypes.c_size_t(2 << 20), properties, c64(0))
        if kind == "link_state":
            return self._out("cuLinkCreate_v2", 0, None, None, first=False)
        if kind == "memory":
            return self.driver.allocate(4096)
        if kind == "texture_reference":
            return self._out("cuTexRefCreate")
        if kind == "user_object":
            return 0
        raise AssertionError(kind)

    def end(self) -> None:
        """Ends what the call has left; what it has ended itself answers with an error that nobody looks at."""
        call, c64 = self.driver.call, ctypes.c_uint64
        enders = {
            "graph_exec": "cuGraphExecDestroy",
            "graph": "cuGraphDestroy",
            "stream": "cuStreamDestroy_v2",
            "event": "cuEventDestroy_v2",
            "array": "cuArrayDestroy",
            "memory_pool": "cuMemPoolDestroy",
            "allocation": "cuMemRelease",
            "link_state": "cuLinkDestroy",
            "memory": "cuMemFree_v2",
            "module": "cuModuleUnload",
            "texture_reference": "cuTexRefDestroy",
        }
        for kind, ender in enders.items():
            if kind in self.fresh:
                call(ender, c64(self.fresh[kind]))


WRONG = {"stream": "event", "graph": "graph_exec"}


def handle(objects: Objects, kind: str, state: str) -> int:
    if state == "null":
        return 0
    if state == "junk":
        return 0x7B00_0000_1234
    if state == "stale":
        return objects.stale.get(kind, 0)
    if state == "wrong":
        return objects.get(WRONG.get(kind, "stream"))
    return objects.get(kind)


def address(objects: Objects, state: str) -> int:
    if state == "null":
        return 0
    if state == "junk":
        return 0x1234_5678_9000
    place = objects.get("memory")
    return place + {"valid": 0, "inside": 4, "end": 4095}[state]


def prepare(objects: Objects, argument: list[Any], buffers: list[Any]) -> Any:
    kind = argument[0]
    if kind == "handle":
        return ctypes.c_uint64(handle(objects, argument[1], argument[2]))
    if kind == "address":
        return ctypes.c_uint64(address(objects, argument[1]))
    if kind == "number":
        return INTEGER[argument[2]](argument[1])
    if kind == "text":
        return ctypes.c_char_p(argument[1].encode())
    if kind == "null":
        return ctypes.c_void_p()
    buffers.append(ctypes.create_string_buffer(BUFFER))
    return buffers[-1]


def shown(symbol: str, result: int, buffers: list[Any]) -> str:
    if result or symbol in OWN_NUMBERS:
        return ""
    numbers = [int.from_bytes(buffer.raw[:4], "little") for buffer in buffers if not any(buffer.raw[4:64])]
    return " ".join(str(n) if n < SMALL else "large" for n in numbers)


def main(path: str) -> None:
    driver = Driver()
    objects = Objects(driver)
    with open(path) as file:
        plan = json.load(file)
    for number, (symbol, arguments) in enumerate(plan):
        objects.begin()
        buffers: list[Any] = []
        given = [prepare(objects, a, buffers) for a in arguments]
        result = driver.call(symbol, *given)
        waited = driver.call("cuCtxSynchronize")
        print(number, symbol, result, waited, shown(symbol, result, buffers), flush=True)
        driver.call("cuCtxSetCurrent", driver.context)
        objects.end()


if __name__ == "__main__":
    main(sys.argv[1])
