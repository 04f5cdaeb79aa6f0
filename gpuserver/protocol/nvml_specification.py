"""NVML's specification: the declarations of `nvml_api/` joined with the prototypes of `nvml.h`.

The classes mean what they mean for the driver API; CACHED calls are generated here: the first answer to a question is
kept and answers it from then on. What is not declared is exported and answers NVML_ERROR_NOT_SUPPORTED.
What need not be said: an `nvmlDevice_t` is a device of the lease, a `T *` comes out, a struct with a version of its own
goes both ways, a `char *` before a `length` is a text that comes out.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass

from gpuserver.protocol.declare import Class, Declaration, DeclarationError, Direction, Family, Shape
from gpuserver.protocol.header import Function, Parameter, find_cuda_include
from gpuserver.protocol.nvml_header import NvmlHeader, read_nvml_header

GENERATED = frozenset({Class.CACHED, Class.SYNC})
DEVICE = "nvmlDevice_t"


class NvmlFamily(Family):
    """The declarations of one file in `nvml_api/`."""

    def once(self, symbols: str, common: Mapping[str, Shape] | None = None, **shapes: Shape) -> None:
        """Asked once: the answer never changes."""
        self._add(symbols, Class.CACHED, {**(common or {}), **shapes})


@dataclass(frozen=True)
class NvmlField:
    """One parameter on the wire. `type` is the element's type of a pointer."""

    name: str
    type: str
    pointer: bool
    direction: Direction = Direction.IN
    count: str = "1"
    versioned: bool = False

    @property
    def comes_out(self) -> bool:
        return self.pointer and self.direction in (Direction.OUT, Direction.INOUT)


@dataclass(frozen=True)
class NvmlCall:
    """One exported symbol; `fields` in wire order, empty where it is not generated."""

    function: Function
    declaration: Declaration
    fields: tuple[NvmlField, ...]

    @property
    def symbol(self) -> str:
        return self.function.symbol

    @property
    def generated(self) -> bool:
        return self.declaration.call_class in GENERATED


@dataclass(frozen=True)
class NvmlSpecification:
    calls: dict[str, NvmlCall]  # every exported symbol, sorted by name

    @property
    def generated(self) -> list[NvmlCall]:
        return [c for c in self.calls.values() if c.generated]

    @property
    def text(self) -> str:
        """Differs when the wire layout may differ: part of the digest in the handshake."""
        return "\n".join(
            f"{c.symbol}:" + ",".join(f"{f.type}/{f.direction.value}/{f.count}/{f.versioned}" for f in c.fields)
            for c in self.generated
        )


def _field(parameter: Parameter, following: str, declaration: Declaration, header: NvmlHeader) -> NvmlField:
    spelled = parameter.type.replace(" *", "*").strip()
    if not spelled.endswith("*"):
        return NvmlField(parameter.name, spelled, pointer=False)
    element = spelled[:-1].removeprefix("const ").strip()
    shape = declaration.shapes.get(parameter.name)
    if shape is None:
        if element == "char" and following == "length":
            shape = Shape(Direction.OUT, "length")
        elif element in ("char", "void", DEVICE) or element.endswith("*"):
            raise DeclarationError(f"{declaration.symbol}: what {parameter.name} points to is not said")
        else:
            shape = Shape(Direction.INOUT if element in header.versioned else Direction.OUT)
    versioned = element in header.versioned and shape.count == "1"
    return NvmlField(parameter.name, element, True, shape.direction, shape.count, versioned)


def _wire_order(field: NvmlField) -> int:
    """Counts before what they count."""
    if not field.pointer:
        return 0
    return 1 if field.count == "1" else 2


def _call(function: Function, declaration: Declaration, header: NvmlHeader) -> NvmlCall:
    if declaration.call_class not in GENERATED:
        return NvmlCall(function, declaration, ())
    parameters = function.parameters
    following = [*(p.name for p in parameters[1:]), ""]
    fields = [_field(p, after, declaration, header) for p, after in zip(parameters, following, strict=True)]
    return NvmlCall(function, declaration, tuple(sorted(fields, key=_wire_order)))


@functools.cache
def read_nvml_specification() -> NvmlSpecification:
    """Join declarations and header. Raises DeclarationError, FileNotFoundError."""
    # Imported here: the families' files import NvmlFamily from this one.
    from gpuserver.protocol import nvml_api

    header = read_nvml_header(find_cuda_include())
    known = {f.symbol for f in header.functions}
    declared: dict[str, Declaration] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(nvml_api.__path__)):
        family: NvmlFamily = importlib.import_module(f"{nvml_api.__name__}.{module}").FAMILY
        for symbol, declaration in family.declarations.items():
            if symbol in declared:
                raise DeclarationError(f"{symbol} is declared in {declared[symbol].family} and in {family.name}")
            if symbol not in known:
                raise DeclarationError(f"{symbol} ({family.name}) is not in nvml.h")
            declared[symbol] = declaration
    return NvmlSpecification(
        {
            f.symbol: _call(f, declared.get(f.symbol) or Declaration(f.symbol, Class.NOT_YET, ""), header)
            for f in header.functions
        }
    )
