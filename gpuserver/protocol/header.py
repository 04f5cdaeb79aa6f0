"""What `cuda.h` declares: every exported driver entry point, with its types and its version history.

The exported names and prototypes come from `cuda.h` (read with `__CUDA_API_VERSION_INTERNAL`, so that old versions and
the per-thread-stream variants are declared under their own symbols). `cudaTypedefs.h` names, for each API name, the
CUDA version that introduced each prototype (`PFN_<name>_v<version>[_ptds|_ptsz]`); `resolve_versions` joins the two.
Everything that is generated for the driver API starts from `read_header()`.
"""

from __future__ import annotations

import functools
import re
import sysconfig
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from clang import cindex

HEADERS = ("cuda.h", "cudaTypedefs.h", "cudaProfilerTypedefs.h")
# cuda.h maps this name to another symbol with a `#define` and cudaTypedefs.h gives the mapping no version: runtimes
# from 12.0 on ask for `cuGraphInstantiate` at 12000 and call it with the three parameters of this symbol.
RENAMED = (("cuGraphInstantiate", 12000, False, "cuGraphInstantiateWithFlags"),)
# cudaProfiler.h comes in a wheel of its own, for these three declarations alone: given to the parser as a file.
PROFILER = """#pragma once
typedef enum CUoutput_mode_enum { CU_OUT_KEY_VALUE_PAIR, CU_OUT_CSV } CUoutput_mode;
extern "C" CUresult cuProfilerInitialize(const char *configFile, const char *outputFile, CUoutput_mode outputMode);
extern "C" CUresult cuProfilerStart(void);
extern "C" CUresult cuProfilerStop(void);
"""


@dataclass(frozen=True)
class Parameter:
    """One parameter: `type` as the header spells it, `canonical` with typedefs resolved."""

    name: str
    type: str
    canonical: str


@dataclass(frozen=True)
class Function:
    """One exported symbol of `libcuda.so.1`, e.g. `cuMemAlloc_v2` or `cuMemcpyHtoD_v2_ptds`."""

    symbol: str
    result: str
    parameters: tuple[Parameter, ...]

    @property
    def signature(self) -> tuple[str, ...]:
        return tuple(p.canonical for p in self.parameters)

    @property
    def prototype(self) -> str:
        """The C declaration without a trailing semicolon; unnamed parameters get positional names."""
        shown = ", ".join(declare(p.type, p.name or f"p{i}") for i, p in enumerate(self.parameters))
        return f"{self.result} {self.symbol}({shown or 'void'})"


@dataclass(frozen=True)
class EntryPoint:
    """An answer of `cuGetProcAddress(name, version, flags)`: `symbol` serves `name` from CUDA `since` (11020) on."""

    name: str
    since: int
    per_thread: bool
    symbol: str


@dataclass(frozen=True)
class Header:
    version: int
    functions: dict[str, Function]
    entry_points: tuple[EntryPoint, ...]


def declare(type_: str, name: str) -> str:
    """`int (*)(void *)` and `cb` → `int (*cb)(void *)`; ordinary types take the name behind them."""
    if "(*)" in type_:
        return type_.replace("(*)", f"(*{name})", 1)
    array = re.fullmatch(r"(.*?)\s*(\[\d*\])", type_)
    if array:
        return f"{array[1]} {name}{array[2]}"
    return f"{type_}{name}" if type_.endswith("*") else f"{type_} {name}"


def find_cuda_include() -> Path:
    """The include folder of the `nvidia-cuda-runtime` wheel. Raises FileNotFoundError when it is not installed."""
    for base in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for found in sorted(Path(base).glob("nvidia/cu*/include/cuda.h")):
            return found.parent
    raise FileNotFoundError("cuda.h not found: install the wheel nvidia-cuda-runtime (extra `build`)")


def _compiler_include() -> list[str]:
    """The libclang wheel brings no builtin headers (stddef.h); gcc's own serve."""
    return [str(p) for p in sorted(Path("/usr/lib/gcc").glob("*/*/include"))[-1:]]


def parse(include: Path, *defines: str) -> cindex.TranslationUnit:
    source = "".join(f"#include <{h}>\n" for h in HEADERS)
    args = ["-x", "c++", "-std=c++20", f"-I{include}", *(f"-I{p}" for p in _compiler_include())]
    files = [("headers.cpp", source), (str(include / "cudaProfiler.h"), "#include <cuda.h>\n" + PROFILER)]
    unit = cindex.Index.create().parse("headers.cpp", args=[*args, *(f"-D{d}" for d in defines)], unsaved_files=files)
    errors = [str(d) for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
    if errors:
        raise ValueError("cannot parse the CUDA headers: " + "; ".join(errors[:3]))
    return unit


def _declarations(unit: cindex.TranslationUnit) -> list[cindex.Cursor]:
    found: list[cindex.Cursor] = []
    stack = [unit.cursor]
    while stack:
        for cursor in stack.pop().get_children():
            if cursor.kind in (cindex.CursorKind.LINKAGE_SPEC, cindex.CursorKind.UNEXPOSED_DECL):
                stack.append(cursor)
            else:
                found.append(cursor)
    return found


def _functions(declarations: list[cindex.Cursor]) -> dict[str, Function]:
    functions = {}
    for cursor in declarations:
        if cursor.kind != cindex.CursorKind.FUNCTION_DECL or not cursor.spelling.startswith("cu"):
            continue
        if cursor.storage_class == cindex.StorageClass.STATIC:  # an inline convenience, not an export
            continue
        parameters = tuple(
            Parameter(a.spelling, a.type.spelling, a.type.get_canonical().spelling) for a in cursor.get_arguments()
        )
        functions[cursor.spelling] = Function(cursor.spelling, cursor.result_type.spelling, parameters)
    return functions


def _typedefs(declarations: list[cindex.Cursor]) -> dict[tuple[str, bool], dict[int, tuple[str, ...]]]:
    """(API name, per thread?) → {version: canonical parameter types}."""
    found: dict[tuple[str, bool], dict[int, tuple[str, ...]]] = defaultdict(dict)
    for cursor in declarations:
        match = re.fullmatch(r"PFN_(\w+?)_v(\d+)(_ptds|_ptsz)?", cursor.spelling)
        if cursor.kind == cindex.CursorKind.TYPEDEF_DECL and match:
            pointee = cursor.underlying_typedef_type.get_canonical().get_pointee()
            found[match[1], bool(match[3])][int(match[2])] = tuple(t.spelling for t in pointee.argument_types())
    return found


def resolve_versions(
    functions: dict[str, Function], typedefs: dict[tuple[str, bool], dict[int, tuple[str, ...]]]
) -> tuple[EntryPoint, ...]:
    """Join versions with symbols: the n-th version of a name is its n-th symbol in suffix order, types agreeing."""
    symbols: dict[tuple[str, bool], list[tuple[int, str]]] = defaultdict(list)
    for symbol in functions:
        match = re.fullmatch(r"(\w+?)(?:_v(\d+))?(_ptds|_ptsz)?", symbol)
        assert match
        symbols[match[1], bool(match[3])].append((int(match[2] or 1), symbol))
    entries = []
    for (name, per_thread), versions in sorted(typedefs.items()):
        remaining = [s for _, s in sorted(symbols[name, per_thread])]
        for version, signature in sorted(versions.items()):
            fitting = [s for s in remaining if functions[s].signature == signature]
            # A version that kept its prototype kept its symbol too, unless another symbol is left for it.
            symbol = fitting[0] if fitting else (remaining[0] if remaining else "")
            if symbol:
                entries.append(EntryPoint(name, version, per_thread, symbol))
                remaining = [s for s in remaining if s != symbol]
    return tuple(entries)


def _entry_order(entry: EntryPoint) -> tuple[str, bool, int]:
    return entry.name, entry.per_thread, entry.since


@functools.cache
def read_header(include: Path | None = None) -> Header:
    """Read the installed CUDA headers once. Raises FileNotFoundError, ValueError."""
    include = include or find_cuda_include()
    declarations = _declarations(parse(include, "__CUDA_API_VERSION_INTERNAL"))
    functions = _functions(declarations)
    version = re.search(r"#define\s+CUDA_VERSION\s+(\d+)", (include / "cuda.h").read_text())
    if not version:
        raise ValueError(f"{include / 'cuda.h'} does not define CUDA_VERSION")
    renamed = tuple(EntryPoint(*entry) for entry in RENAMED if entry[3] in functions)
    entries = sorted((*resolve_versions(functions, _typedefs(declarations)), *renamed), key=_entry_order)
    return Header(int(version[1]), functions, tuple(entries))
