"""The worker's side: a handler for each generated call, and the table that finds the handler of an operation."""

from __future__ import annotations

from gpuserver.protocol.declare import Class, Direction
from gpuserver.protocol.generate_protocol import NOTE, OWN_OPERATIONS, base_calls
from gpuserver.protocol.specification import Call, Field, Specification, named

HANDLER_FILES = 3


def _decode(call: Call, field: Field) -> str:
    kind = f"Kind::{field.kind}"
    if not field.pointer:
        if field.kind:
            return f"const auto {field.name} = in.handle<{field.type}>({kind});"
        return f"const auto {field.name} = in.value<{field.type}>();"
    if field.direction is Direction.TEXT:
        return f"const char* const {field.name} = in.text();"
    if field.direction is Direction.ABSENT:
        return f"{field.type}* const {field.name} = nullptr;"
    if field.kind and field.direction is Direction.IN:
        return f"const auto {field.name} = in.handles<{field.type}>({kind}, {field.count});"
    if call.call_class is Class.CREATE and field.created:
        return f"{field.type} made_{field.name}{{}};\n    const Handle name_{field.name} = in.name({kind});"
    if field.kind and field.direction is Direction.OUT:
        return f"const auto {field.name} = in.want<{field.type}>({field.count});"
    verb = {Direction.IN: "into", Direction.OUT: "want", Direction.INOUT: "both"}[field.direction]
    return f"const auto {field.name} = in.{verb}<{field.type}>({field.count});"


def owner_of(call: Call) -> str:
    """The expression for the handle that a new object dies with: its graph or module, else its context."""
    handles = {f.kind: f.name for f in reversed(call.fields) if f.kind and not f.pointer}
    created = next((f.kind for f in call.fields if f.created), "")
    if created == "graph_node" or (created == "graph" and "graph_node" in handles):
        if "graph" in handles:
            return "in.owner(Kind::graph)"
        if "graph_node" in handles:
            return "in.owner(Kind::graph_node)"
    if created in ("texture_reference", "surface_reference") and "module" in handles:
        return "in.last(Kind::module)"
    return "in.context()"


def handler(call: Call) -> str:
    lines = [_decode(call, f) for f in call.fields]
    lines.append("if (!in.good()) return out.refuse(in);")
    made = {f.name for f in call.fields if call.call_class is Class.CREATE and f.created}
    shown = ", ".join(f"&made_{p.name}" if p.name in made else p.name for p in named(call.function))
    lines.append(f"out.result = driver.{call.symbol}({shown});")
    for field in call.fields:
        if field.name in made:
            lines.append(f"in.bind(name_{field.name}, out.result, made_{field.name}, {owner_of(call)});")
        elif field.pointer and field.created:
            lines.append(f"out.give_handles(in, Kind::{field.kind}, {field.name}, {field.count}, {owner_of(call)});")
        elif field.pointer and field.direction in (Direction.OUT, Direction.INOUT):
            lines.append(f"out.give(in, {field.name}, {field.count});")
        elif field.destroyed:
            lines.append(f"if (out.result == CUDA_SUCCESS) in.forget(Kind::{field.kind});")
    body = "".join(f"    {line}\n" for line in lines)
    return f"static void serve_{call.symbol}(Request& in, Answer& out) {{\n{body}}}\n"


def handlers(specification: Specification) -> list[str]:
    calls = [c for c in base_calls(specification) if c.generated]
    share = -(-len(calls) // HANDLER_FILES)
    texts = []
    for number in range(HANDLER_FILES):
        part = calls[number * share : (number + 1) * share]
        rows = "".join(f"    handlers[static_cast<int>(Op::{c.symbol})] = serve_{c.symbol};\n" for c in part)
        texts.append(
            NOTE.format(version=specification.header.version)
            + '#include "request.h"\n\nnamespace gpuferry::worker {\n\n'
            + "\n".join(handler(c) for c in part)
            + f"\nvoid add_generated_handlers_{number}(Handler* handlers) {{\n{rows}}}\n\n"
            "}  // namespace gpuferry::worker\n"
        )
    return texts


def table(specification: Specification) -> str:
    own = [f"serve_{name}" for name in OWN_OPERATIONS]
    declared = "".join(f"void {name}(Request& in, Answer& out);\n" for name in own)
    rows = "".join(f"    handlers[static_cast<int>(Op::{name})] = serve_{name};\n" for name in OWN_OPERATIONS)
    parts = range(HANDLER_FILES)
    return (
        NOTE.format(version=specification.header.version)
        + '#include "request.h"\n\nnamespace gpuferry::worker {\n\n'
        + declared
        + "".join(f"void add_generated_handlers_{i}(Handler* handlers);\n" for i in parts)
        + "\nstatic Handler handlers[static_cast<int>(Op::count)];\n\nvoid prepare_handlers() {\n"
        + "".join(f"    add_generated_handlers_{i}(handlers);\n" for i in parts)
        + rows
        + "}\n\nHandler handler_of(uint16_t op) {\n"
        "    return op < static_cast<uint16_t>(Op::count) ? handlers[op] : nullptr;\n}\n\n"
        "}  // namespace gpuferry::worker\n"
    )


def files(specification: Specification) -> dict[str, str]:
    return {
        **{f"worker_handlers_{i}.cpp": text for i, text in enumerate(handlers(specification))},
        "worker_table.cpp": table(specification),
    }
