"""The whole specification: the declarations of `api/` joined with the prototypes of `cuda.h`.

`read_specification()` gives every exported symbol its class and, for the calls that are generated, each parameter's
part on the wire. Raises DeclarationError where a declaration and the header do not fit together.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import pkgutil
import re
from dataclasses import dataclass

from gpuserver.protocol import api
from gpuserver.protocol.declare import (
    BY_HAND,
    HANDLE_KINDS,
    Class,
    Declaration,
    DeclarationError,
    Direction,
    Family,
    Shape,
)
from gpuserver.protocol.header import Function, Header, Parameter, read_header
from gpuserver.protocol.nvml_specification import read_nvml_specification

PER_THREAD = re.compile(r"(\w+)_pt(?:ds|sz)")
PLAIN_CLASSES = frozenset({Class.CREATE, Class.ASYNC, Class.SYNC})


@dataclass(frozen=True)
class Field:
    """One parameter on the wire. `kind` is the handle kind, empty for plain data; `type` the element's C++ type."""

    name: str
    type: str
    direction: Direction
    pointer: bool
    count: str
    kind: str
    destroyed: bool = False

    @property
    def created(self) -> bool:
        return self.pointer and bool(self.kind) and self.direction is Direction.OUT


@dataclass(frozen=True)
class Call:
    """One exported symbol: its prototype, its class, and for generated calls its fields in wire order."""

    function: Function
    declaration: Declaration
    base: str  # the symbol that does the work of a _ptds/_ptsz variant or of an older name, else empty
    per_thread: bool
    fields: tuple[Field, ...]

    @property
    def symbol(self) -> str:
        return self.function.symbol

    @property
    def call_class(self) -> Class:
        return self.declaration.call_class

    @property
    def generated(self) -> bool:
        return not self.base and self.call_class in PLAIN_CLASSES

    @property
    def by_hand(self) -> bool:
        return not self.base and self.call_class in BY_HAND


@dataclass(frozen=True)
class Specification:
    header: Header
    calls: dict[str, Call]  # every exported symbol, sorted by name

    @property
    def digest(self) -> str:
        """16 hex digits that differ when the wire layout may differ: part of the handshake."""
        text = "\n".join(
            f"{c.symbol}:{c.call_class.name}:" + ",".join(f"{f.type}/{f.direction.value}/{f.count}" for f in c.fields)
            for c in self.calls.values()
        )
        text += read_nvml_specification().text
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def named(function: Function) -> list[Parameter]:
    """The parameters; unnamed ones get the positional names of `Function.prototype`."""
    return [Parameter(p.name or f"p{i}", p.type, p.canonical) for i, p in enumerate(function.parameters)]


def arguments(function: Function) -> str:
    return ", ".join(p.name for p in named(function))


def load_families() -> list[Family]:
    """The families of every module in `api/`, in the order of the files' names."""
    families = []
    for module in sorted(m.name for m in pkgutil.iter_modules(api.__path__)):
        families.append(importlib.import_module(f"{api.__name__}.{module}").FAMILY)
    return families


def _field(parameter: Parameter, declaration: Declaration) -> Field:
    shape = declaration.shapes.get(parameter.name)
    spelled = parameter.type.replace(" *", "*").strip()
    if not spelled.endswith("*"):
        if shape:
            raise DeclarationError(f"{declaration.symbol}: {parameter.name} is no pointer and needs no shape")
        return Field(
            parameter.name,
            spelled,
            Direction.IN,
            False,
            "1",
            HANDLE_KINDS.get(spelled, ""),
            declaration.destroys == parameter.name,
        )
    target = spelled[:-1].strip()
    constant = target.startswith("const ")
    element = target.removeprefix("const ").strip()
    if shape is None:
        if element == "void" or element.endswith("*") or element == "char":
            raise DeclarationError(
                f"{declaration.symbol}: what {parameter.name} ({parameter.type}) points to is not said"
            )
        shape = Shape(Direction.IN if constant else Direction.OUT)
    if shape.direction is Direction.ADDRESS:
        return Field(parameter.name, "void*", Direction.IN, False, "1", "")
    element = shape.element or element
    return Field(parameter.name, element, shape.direction, True, shape.count, HANDLE_KINDS.get(element, ""))


def _wire_order(field: Field) -> int:
    """Counts before what they count: values first, then single elements that go in, then arrays."""
    if not field.pointer:
        return 0
    return 1 if field.direction is Direction.INOUT and field.count == "1" else 2


def _call(function: Function, declaration: Declaration, base: str, per_thread: bool) -> Call:
    if base or declaration.call_class not in PLAIN_CLASSES:
        return Call(function, declaration, base, per_thread, ())
    known = {p.name for p in named(function)}
    if unknown := (set(declaration.shapes) | ({declaration.destroys} - {""})) - known:
        raise DeclarationError(f"{function.symbol} has no parameter {', '.join(sorted(unknown))}")
    fields = sorted((_field(p, declaration) for p in named(function)), key=_wire_order)
    if declaration.call_class is Class.CREATE and not any(f.created for f in fields):
        raise DeclarationError(f"{function.symbol} is declared CREATE, but no handle comes out of it")
    if declaration.call_class in (Class.CREATE, Class.ASYNC):
        answers = [f for f in fields if f.direction in (Direction.OUT, Direction.INOUT) and not f.created]
        if answers or (declaration.call_class is Class.ASYNC and any(f.created for f in fields)):
            raise DeclarationError(f"{function.symbol} is not awaited, but something comes out of it")
    return Call(function, declaration, base, per_thread, tuple(fields))


@functools.cache
def read_specification() -> Specification:
    """Join declarations and header. Raises DeclarationError."""
    header = read_header()
    declared: dict[str, Declaration] = {}
    for family in load_families():
        for symbol, declaration in family.declarations.items():
            if symbol in declared:
                raise DeclarationError(f"{symbol} is declared in {declared[symbol].family} and in {family.name}")
            if symbol not in header.functions:
                raise DeclarationError(f"{symbol} ({family.name}) is not in cuda.h {header.version}")
            declared[symbol] = declaration
    calls = {}
    for symbol, function in sorted(header.functions.items()):
        match = PER_THREAD.fullmatch(symbol)
        base = match[1] if match and match[1] in header.functions else ""
        per_thread = bool(base)
        declaration = declared.get(base or symbol) or Declaration(base or symbol, Class.NOT_YET, "")
        if newer := declaration.same_as:
            if header.functions[newer].signature != header.functions[declaration.symbol].signature:
                raise DeclarationError(f"{newer} has another prototype than {declaration.symbol}")
            base, declaration = newer, declared[newer]
        calls[symbol] = _call(function, declaration, base, per_thread)
    return Specification(header, calls)
