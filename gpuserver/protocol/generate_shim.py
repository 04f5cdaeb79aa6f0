"""The client's side: a stub for each generated call, the exported symbols, and the table of cuGetProcAddress."""

from __future__ import annotations

from gpuserver.protocol.declare import Class, Direction
from gpuserver.protocol.generate_protocol import NOTE, base_calls
from gpuserver.protocol.specification import Call, Field, Specification, arguments

# What may be called before cuInit.
BEFORE_INIT = frozenset(
    {
        "cuInit",
        "cuDriverGetVersion",
        "cuGetErrorName",
        "cuGetErrorString",
        "cuGetProcAddress",
        "cuGetProcAddress_v2",
        "cuGetExportTable",
    }
)
DEVICE = "CUdevice"  # each server numbers its own GPUs; the program numbers them all
STUB_FILES = 3  # compile time: one file would take too long on a small machine


def prototypes(specification: Specification) -> str:
    calls = [c for c in base_calls(specification) if c.call_class not in (Class.NOT_YET, Class.REFUSED)]
    lines = "".join(f"{c.function.prototype};\n" for c in calls)
    wrapped = "".join(f"{_stub_prototype(c)};\n" for c in calls if c.declaration.wrapped)
    return (
        NOTE.format(version=specification.header.version)
        + "// Every call as the shim makes it: generated, or written by hand in the file of its family.\n"
        "#pragma once\n\n"
        f'#include "cuda_api.h"\n\nnamespace gpuferry::shim {{\n\n{lines}\n'
        f"// What the functions written by hand wrap.\n{wrapped}\n}}  // namespace gpuferry::shim\n"
    )


def _stub_prototype(call: Call) -> str:
    if not call.declaration.wrapped:
        return call.function.prototype
    return call.function.prototype.replace(f" {call.symbol}(", f" forward_{call.symbol}(", 1)


def _encode(field: Field) -> str:
    kind = f"Kind::{field.kind}"
    if not field.pointer:
        if field.destroyed:
            return f"call.destroyed({kind}, {field.name});"
        if field.type == DEVICE:
            return f"call.device({field.name});"
        return f"call.handle({kind}, {field.name});" if field.kind else f"call.value({field.name});"
    if field.direction is Direction.TEXT:
        return f"call.text({field.name});"
    if field.direction is Direction.ABSENT:
        return f"call.absent({field.name});"
    if field.kind:
        if field.direction is Direction.IN:
            return f"call.handles({kind}, {field.name}, {field.count});"
        return f"call.want({field.name}, {field.count});"
    verb = {Direction.IN: "into", Direction.OUT: "want", Direction.INOUT: "both"}[field.direction]
    return f"call.{verb}({field.name}, {field.count});"


def _decode(field: Field) -> str:
    if field.kind:
        return f"call.take_handles(Kind::{field.kind}, {field.name}, {field.count});"
    if field.type == DEVICE:
        return f"call.take_devices({field.name}, {field.count});"
    return f"call.take({field.name}, {field.count});"


def _constness(field: Field) -> str:
    return "const " if field.direction is Direction.IN else ""


def _typed(call: Call) -> str:
    """`void *` parameters under the element type that the declaration gives."""
    void = {p.name for p in call.function.parameters if p.type.replace(" ", "") in ("void*", "constvoid*")}
    return "".join(
        f"    auto* typed_{f.name} = static_cast<{_constness(f)}{f.type}*>({f.name});\n"
        for f in call.fields
        if f.name in void and f.pointer
    )


def stub(call: Call) -> str:
    lines = []
    typed = _typed(call)
    rename = {f.name for f in call.fields if f"typed_{f.name} =" in typed}

    def spell(field: Field, text: str) -> str:
        return text.replace(f"({field.name},", f"(typed_{field.name},") if field.name in rename else text

    for field in call.fields:
        if call.call_class is Class.CREATE and field.created:
            lines.append(f"call.create(Kind::{field.kind}, {field.name});")
        else:
            lines.append(spell(field, _encode(field)))
    if call.call_class is Class.SYNC:
        lines.append("if (!call.ask()) return call.result();")
        lines += [
            spell(f, _decode(f)) for f in call.fields if f.direction in (Direction.OUT, Direction.INOUT) and f.pointer
        ]
        lines.append("return call.result();")
    else:
        lines.append("return call.post();")
    body = "".join(f"    {line}\n" for line in lines)
    return f"{_stub_prototype(call)} {{\n{typed}    Call call(Op::{call.symbol});\n{body}}}\n"


def stubs(specification: Specification) -> list[str]:
    calls = [c for c in base_calls(specification) if c.generated]
    share = -(-len(calls) // STUB_FILES)
    return [
        NOTE.format(version=specification.header.version)
        + '#include "call.h"\n#include "shim_calls.h"\n\nnamespace gpuferry::shim {\n\n'
        + "\n".join(stub(c) for c in calls[start : start + share])
        + "\n}  // namespace gpuferry::shim\n"
        for start in range(0, share * STUB_FILES, share)
    ]


def export(call: Call) -> str:
    base = call.base or call.symbol
    unused = "".join(f"(void){p}; " for p in arguments(call.function).split(", ") if p)
    if call.call_class is Class.NOT_YET:
        return f"{call.function.prototype} {{\n    {unused}return not_supported(Op::{base});\n}}\n"
    if call.call_class is Class.REFUSED:
        told = call.declaration
        return (
            f"{call.function.prototype} {{\n    {unused}\n"
            f"    if (const CUresult refusal = enter(Op::{base}, false)) return refusal;\n"
            f'    return refused(Op::{base}, {told.answer}, "{told.answer}", "{told.reason}");\n}}\n'
        )
    scope = "    const PerThreadStreamScope scope;\n" if call.per_thread else ""
    early = "true" if call.symbol in BEFORE_INIT else "false"
    return (
        f"{call.function.prototype} {{\n"
        f"    if (const CUresult refusal = enter(Op::{base}, {early})) return refusal;\n{scope}"
        f"    return leave(Op::{base}, shim::{base}({arguments(call.function)}));\n}}\n"
    )


def exports(specification: Specification) -> str:
    bodies = "\n".join(export(c) for c in specification.calls.values())
    return (
        NOTE.format(version=specification.header.version)
        + '#include "entry.h"\n#include "shim_calls.h"\n\nusing namespace gpuferry;\n\n'
        "#pragma GCC visibility push(default)\n"
        f'extern "C" {{\n\n{bodies}\n}}\n#pragma GCC visibility pop\n'
    )


def entry_points(specification: Specification) -> str:
    rows = "".join(
        f'    {{"{e.name}", {e.since}, {str(e.per_thread).lower()}, reinterpret_cast<void*>(&::{e.symbol})}},\n'
        for e in specification.header.entry_points
    )
    return (
        NOTE.format(version=specification.header.version)
        + '#include "cuda_api.h"\n#include "entry_points.h"\n\nnamespace gpuferry {\n\n'
        f"static const EntryPoint table[] = {{\n{rows}}};\n\n"
        "std::span<const EntryPoint> entry_points() { return table; }\n\n}  // namespace gpuferry\n"
    )


def exports_map(specification: Specification) -> str:
    return "{\n  global:\n" + "".join(f"    {s};\n" for s in specification.calls) + "  local: *;\n};\n"


def files(specification: Specification) -> dict[str, str]:
    return {
        "shim_calls.h": prototypes(specification),
        **{f"shim_stubs_{i}.cpp": text for i, text in enumerate(stubs(specification))},
        "shim_exports.cpp": exports(specification),
        "shim_entry_points.cpp": entry_points(specification),
        "exports.map": exports_map(specification),
    }
