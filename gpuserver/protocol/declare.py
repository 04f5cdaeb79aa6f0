"""How one function of the driver API is declared: its class, and what `cuda.h` cannot say about its parameters.

The files in `api/` hold the declarations, one file per family. Everything else (client stub, server handler, wire
layout, trace text, coverage table, fuzz entry) follows from a declaration and the prototype in the header.
What need not be said, because the type says it: a `CUstream` is a handle, a `CUstream *` is a handle that comes back,
a `const T *` goes in, a `T *` comes out, both one element long.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Class(enum.Enum):
    """Who answers a call, and whether the client waits (the table in the design notes, `docs/forwarding.md`)."""

    LOCAL = "LOCAL"
    CACHED = "CACHED"
    CREATE = "CREATE"
    ASYNC = "ASYNC"
    SYNC = "SYNC"
    CUSTOM = "CUSTOM"
    REFUSED = "REFUSED"
    NOT_YET = "not yet"


# Classes whose client side is written by hand, in `clientagent/shim/`.
BY_HAND = frozenset({Class.LOCAL, Class.CACHED, Class.CUSTOM})

# The handle types of the driver API and the kind that the handle tables know them by.
HANDLE_KINDS = {
    "CUcontext": "context",
    "CUmodule": "module",
    "CUfunction": "function",
    "CUlibrary": "library",
    "CUkernel": "function",  # cudart 13 passes kernels where functions are expected: one name space
    "CUarray": "array",
    "CUmipmappedArray": "mipmapped_array",
    "CUstream": "stream",
    "CUevent": "event",
    "CUgraph": "graph",
    "CUgraphNode": "graph_node",
    "CUgraphExec": "graph_exec",
    "CUmemoryPool": "memory_pool",
    "CUmemGenericAllocationHandle": "allocation",
    "CUlinkState": "link_state",
    "CUuserObject": "user_object",
    "CUexternalMemory": "external_memory",
    "CUexternalSemaphore": "external_semaphore",
    "CUgreenCtx": "green_context",
    "CUdevResourceDesc": "resource_descriptor",
    "CUgraphDeviceNode": "graph_device_node",
    "CUtexref": "texture_reference",
    "CUsurfref": "surface_reference",
}


class Direction(enum.Enum):
    IN = "in"
    OUT = "out"
    INOUT = "inout"
    TEXT = "text"  # a NUL-terminated string that goes in
    ABSENT = "absent"  # must be NULL; anything else is not supported yet
    ADDRESS = "address"  # a device address in the guise of a pointer: a plain number


@dataclass(frozen=True)
class Shape:
    """What a pointer parameter points to: `count` is a C++ expression over the parameters' names."""

    direction: Direction
    count: str = "1"
    element: str = ""  # the element's type, where the header says only `void`


def into(count: str = "1", element: str = "") -> Shape:
    return Shape(Direction.IN, count, element)


def out(count: str = "1", element: str = "") -> Shape:
    return Shape(Direction.OUT, count, element)


def both(count: str = "1", element: str = "") -> Shape:
    return Shape(Direction.INOUT, count, element)


TEXT = Shape(Direction.TEXT)
ABSENT = Shape(Direction.ABSENT)
ADDRESS = Shape(Direction.ADDRESS)


@dataclass(frozen=True)
class Declaration:
    """One symbol's declaration. `destroys` names the handle parameter whose object ends with this call."""

    symbol: str
    call_class: Class
    family: str
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    destroys: str = ""
    wrapped: bool = False  # the generated stub is called forward_<symbol>; a function written by hand calls it
    same_as: str = ""  # the newer symbol that does the same under the same prototype
    answer: str = ""  # what a refused call answers: the name of a CUresult
    reason: str = ""  # why it is refused


class DeclarationError(ValueError):
    """A declaration contradicts the header or another declaration; the message names the symbol."""


class Family:
    """The declarations of one file in `api/`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.declarations: dict[str, Declaration] = {}

    def _add(
        self, symbols: str, call_class: Class, shapes: Mapping[str, Shape], destroys: str = "", wrapped: bool = False
    ) -> None:
        for symbol in symbols.split():
            if symbol in self.declarations:
                raise DeclarationError(f"{symbol} is declared twice in the family {self.name}")
            self.declarations[symbol] = Declaration(symbol, call_class, self.name, dict(shapes), destroys, wrapped)

    def local(self, symbols: str) -> None:
        """Answered from the client's own state, by hand."""
        self._add(symbols, Class.LOCAL, {})

    def cached(self, symbols: str) -> None:
        """Answered from a snapshot that came at session start or with a module, by hand."""
        self._add(symbols, Class.CACHED, {})

    def create(
        self, symbols: str, common: Mapping[str, Shape] | None = None, *, wrapped: bool = False, **shapes: Shape
    ) -> None:
        """Makes an object which the client names itself; posted."""
        self._add(symbols, Class.CREATE, {**(common or {}), **shapes}, wrapped=wrapped)

    def post(
        self,
        symbols: str,
        common: Mapping[str, Shape] | None = None,
        *,
        destroys: str = "",
        wrapped: bool = False,
        **shapes: Shape,
    ) -> None:
        """Posted, not awaited. Its errors are checked on the client beforehand or latched."""
        self._add(symbols, Class.ASYNC, {**(common or {}), **shapes}, destroys, wrapped)

    def ask(
        self,
        symbols: str,
        common: Mapping[str, Shape] | None = None,
        *,
        destroys: str = "",
        wrapped: bool = False,
        **shapes: Shape,
    ) -> None:
        """Posted and awaited: one blocking round trip."""
        self._add(symbols, Class.SYNC, {**(common or {}), **shapes}, destroys, wrapped)

    def same(self, **newer: str) -> None:
        """Older symbols that newer ones have replaced without a change of prototype."""
        for symbol, target in newer.items():
            self.declarations[symbol] = Declaration(symbol, Class.LOCAL, self.name, same_as=target)

    def by_hand(self, symbols: str) -> None:
        """Written by hand on both sides, in one small file per family."""
        self._add(symbols, Class.CUSTOM, {})

    def refuse(self, symbols: str, *, answer: str, reason: str) -> None:
        """Cannot be had by way of a GPU server. `answer`: the CUresult that NVIDIA's driver gives where the facility is
        not there; `reason`: why, as the coverage table and the line on stderr say it."""
        for symbol in symbols.split():
            self.declarations[symbol] = Declaration(
                symbol, Class.REFUSED, self.name, answer=f"CUDA_ERROR_{answer}", reason=reason
            )
