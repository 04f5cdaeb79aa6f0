"""The prototypes of `nvml.h`, old versions included, and which of its structs say their own version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clang import cindex

from gpuserver.protocol.header import Function, Parameter


@dataclass(frozen=True)
class NvmlHeader:
    """`versioned`: the structs whose `version` field holds their size, as `NVML_STRUCT_VERSION` makes it."""

    functions: tuple[Function, ...]  # sorted by name
    versioned: frozenset[str]


def _is_versioned(cursor: cindex.Cursor) -> bool:
    if not cursor.spelling.startswith("nvml"):
        return False
    fields = list(cursor.underlying_typedef_type.get_canonical().get_fields())
    return bool(fields) and fields[0].spelling == "version" and fields[0].type.get_size() == 4


def read_nvml_header(include: Path) -> NvmlHeader:
    """Raises ValueError where libclang cannot read it."""
    arguments = ["-x", "c++", f"-I{include}", "-DNVML_NO_UNVERSIONED_FUNC_DEFS"]
    unit = cindex.Index.create().parse("all.cpp", args=arguments, unsaved_files=[("all.cpp", "#include <nvml.h>\n")])
    errors = [str(d) for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
    if errors:
        raise ValueError("cannot parse nvml.h: " + "; ".join(errors[:3]))
    found: dict[str, Function] = {}
    versioned = set()
    for cursor in unit.cursor.walk_preorder():
        if cursor.kind == cindex.CursorKind.FUNCTION_DECL and cursor.spelling.startswith("nvml"):
            parameters = tuple(
                Parameter(a.spelling, a.type.spelling, a.type.get_canonical().spelling) for a in cursor.get_arguments()
            )
            found[cursor.spelling] = Function(cursor.spelling, cursor.result_type.spelling, parameters)
        elif cursor.kind == cindex.CursorKind.TYPEDEF_DECL and _is_versioned(cursor):
            versioned.add(cursor.spelling)
    return NvmlHeader(tuple(found[name] for name in sorted(found)), frozenset(versioned))


def read_functions(include: Path) -> list[Function]:
    """Every function of `nvml.h`, sorted by name. Raises ValueError."""
    return list(read_nvml_header(include).functions)
