"""What follows from NVML's specification: operation numbers, the client's stubs and exports, the worker's handlers."""

from __future__ import annotations

from gpuserver.protocol.declare import Class, Direction
from gpuserver.protocol.generate_protocol import NOTE as CUDA_NOTE
from gpuserver.protocol.nvml_specification import DEVICE, NvmlCall, NvmlField, NvmlSpecification

NOTE = CUDA_NOTE.replace("from cuda.h {version} and api/", "from nvml.h and nvml_api/")
# Exported by NVIDIA's library, but in no header; the client's is written by hand.
PRIVATE = ("nvmlInternalGetExportTable",)


def operations(specification: NvmlSpecification) -> str:
    symbols = "".join(f"    {c.symbol},\n" for c in specification.generated)
    return (
        NOTE + "#pragma once\n\n#include <cstdint>\n\nnamespace gpuferry {\n\n"
        f"enum class NvmlOp : uint16_t {{\n    none,\n    open,\n{symbols}    count\n}};\n\n"
        "// The number behind a pointer that may be null: of elements that follow.\n"
        "template <class T>\nuint64_t given(const T* count) {\n    return count ? *count : 0;\n}\n\n"
        "}  // namespace gpuferry\n"
    )


def _verb(field: NvmlField) -> str:
    if field.versioned:
        return "versioned"
    return {Direction.IN: "into", Direction.OUT: "want", Direction.INOUT: "both"}[field.direction]


def _encode(field: NvmlField) -> str:
    if field.type == DEVICE:
        return f"call.device({field.name});"
    if not field.pointer:
        return f"call.value({field.name});"
    if field.versioned:
        return f"call.versioned({field.name});"
    return f"call.{_verb(field)}({field.name}, {field.count});"


def stub(call: NvmlCall) -> str:
    lines = [_encode(f) for f in call.fields]
    lines.append("return call.ask_once();" if call.declaration.call_class is Class.CACHED else "return call.ask();")
    body = "".join(f"    {line}\n" for line in lines)
    prototype = call.function.prototype
    if call.declaration.wrapped:
        prototype = prototype.replace(f" {call.symbol}(", f" gpuferry::nvml::forward_{call.symbol}(", 1)
    else:
        prototype = f'extern "C" {prototype}'
    return f"{prototype} {{\n    NvmlCall call(NvmlOp::{call.symbol});\n{body}}}\n"


def refusal(call: NvmlCall) -> str:
    unused = "".join(f"(void){p.name or f'p{i}'}; " for i, p in enumerate(call.function.parameters))
    return f'extern "C" {call.function.prototype} {{\n    {unused}return not_supported("{call.symbol}");\n}}\n'


def exports(specification: NvmlSpecification) -> str:
    calls = specification.calls.values()
    bodies = [stub(c) for c in calls if c.generated]
    bodies += [refusal(c) for c in calls if c.declaration.call_class is Class.NOT_YET]
    return (
        NOTE
        + '#include "nvml_call.h"\n#include "nvml_stubs.h"\n\nusing gpuferry::given;\nusing gpuferry::NvmlOp;\n'
        + "using gpuferry::nvml::not_supported;\nusing gpuferry::nvml::NvmlCall;\n\n"
        + "\n".join(bodies)
    )


def wrapped(specification: NvmlSpecification) -> str:
    lines = [
        c.function.prototype.replace(f" {c.symbol}(", f" forward_{c.symbol}(", 1) + ";\n"
        for c in specification.generated
        if c.declaration.wrapped
    ]
    return (
        NOTE + '#pragma once\n\n#include "nvml_names.h"\n\nnamespace gpuferry::nvml {\n\n'
        "// What the functions written by hand wrap.\n" + "".join(lines) + "\n}  // namespace gpuferry::nvml\n"
    )


def exports_map(specification: NvmlSpecification) -> str:
    names = sorted([*specification.calls, *PRIVATE])
    return "{\n  global:\n" + "".join(f"    {name};\n" for name in names) + "  local: *;\n};\n"


def _decode(field: NvmlField) -> str:
    if field.type == DEVICE:
        return f"const auto {field.name} = in.device();"
    if not field.pointer:
        return f"const auto {field.name} = in.value<{field.type}>();"
    if field.versioned:
        return f"auto* const {field.name} = in.versioned<{field.type}>();"
    return f"auto* const {field.name} = in.{_verb(field)}<{field.type}>({field.count});"


def handler(call: NvmlCall) -> str:
    lines = [_decode(f) for f in call.fields]
    lines.append("if (!in.good()) return in.refuse();")
    lines.append(f"in.answer(nvml.{call.symbol}({', '.join(p.name for p in call.function.parameters)}));")
    body = "".join(f"    {line}\n" for line in lines)
    return f"static void serve_{call.symbol}(NvmlRequest& in) {{\n{body}}}\n"


def handlers(specification: NvmlSpecification) -> str:
    calls = specification.generated
    rows = "".join(f"    serve_{c.symbol},\n" for c in calls)
    return (
        NOTE
        + '#include "nvml_request.h"\n\nnamespace gpuferry::worker {\n\n'
        + "\n".join(handler(c) for c in calls)
        + "\nstatic const NvmlHandler handlers[] = {\n    nullptr,\n    serve_nvml_open,\n"
        + rows
        + "};\n\nNvmlHandler nvml_handler_of(uint16_t op) {\n"
        "    return op < static_cast<uint16_t>(NvmlOp::count) ? handlers[op] : nullptr;\n}\n\n"
        "}  // namespace gpuferry::worker\n"
    )


def table(specification: NvmlSpecification) -> str:
    calls = specification.generated
    members = "".join(f"    decltype(&::{c.symbol}) {c.symbol};\n" for c in calls)
    rows = "".join(f'    {{"{c.symbol}", offsetof(NvmlTable, {c.symbol})}},\n' for c in calls)
    return (
        NOTE + '#pragma once\n\n#include <cstddef>\n\n#include "nvml_names.h"\n\nnamespace gpuferry::worker {\n\n'
        "// The entry points of the libnvidia-ml.so.1 that this process was given.\n"
        '#pragma GCC diagnostic push\n#pragma GCC diagnostic ignored "-Wdeprecated-declarations"\n'
        f"struct NvmlTable {{\n{members}}};\n#pragma GCC diagnostic pop\n\n"
        "struct NvmlEntry {\n    const char* symbol;\n    size_t offset;  // in NvmlTable\n};\n"
        f"constexpr NvmlEntry nvml_entries[] = {{\n{rows}}};\n\n}}  // namespace gpuferry::worker\n"
    )


def protocol_files(specification: NvmlSpecification) -> dict[str, str]:
    return {"nvml_ops.h": operations(specification)}


def shim_files(specification: NvmlSpecification) -> dict[str, str]:
    return {
        "nvml_exports.cpp": exports(specification),
        "nvml_stubs.h": wrapped(specification),
        "nvml_exports.map": exports_map(specification),
    }


def worker_files(specification: NvmlSpecification) -> dict[str, str]:
    return {"nvml_handlers.cpp": handlers(specification), "nvml_table.h": table(specification)}
