"""The null driver's defaults: every exported symbol returns at once; what comes out is zero, handles are distinct."""

from __future__ import annotations

from gpuserver.protocol.declare import HANDLE_KINDS
from gpuserver.protocol.generate_protocol import CUDA_HEADERS, NOTE
from gpuserver.protocol.header import Function
from gpuserver.protocol.specification import Specification, arguments, named


def definition(function: Function, base: str) -> str:
    if base:
        return f"__attribute__((weak)) {function.prototype} {{\n    return {base}({arguments(function)});\n}}\n"
    lines = []
    for parameter in named(function):
        spelled = parameter.type.replace(" *", "*")
        element = spelled.removesuffix("*").strip()
        name = parameter.name
        if spelled.endswith("*") and element in HANDLE_KINDS:
            made = f"reinterpret_cast<{element}>(null_driver_handle())"
            if element == "CUmemGenericAllocationHandle":
                made = "null_driver_handle()"
            lines.append(f"if ({name}) *{name} = {made};")
        else:
            lines.append(f"(void){name};")
    body = "".join(f"    {line}\n" for line in lines)
    return f"__attribute__((weak)) {function.prototype} {{\n{body}    return CUDA_SUCCESS;\n}}\n"


def files(specification: Specification) -> dict[str, str]:
    bodies = "\n".join(definition(c.function, c.base) for c in specification.calls.values())
    return {
        "null_defaults.cpp": NOTE.format(version=specification.header.version)
        + CUDA_HEADERS
        + "\n#include <cstdint>\n\nuint64_t null_driver_handle();\n\n"
        '#pragma GCC visibility push(default)\nextern "C" {\n\n'
        f"{bodies}\n}}\n#pragma GCC visibility pop\n"
    }
