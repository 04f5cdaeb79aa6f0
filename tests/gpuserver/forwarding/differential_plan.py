"""Calls of every forwarded function, made up from the specification: valid arguments, then one wrong one at a time.

A plan is a list of calls whose arguments are symbols (`["handle", "stream", "stale"]`); `differential_calls.py` runs a
plan and prints what each call answered. The same plan gives the same calls everywhere.
"""

from __future__ import annotations

from gpuserver.protocol.declare import HANDLE_KINDS, Class
from gpuserver.protocol.specification import Specification, named

Argument = list[object]
Step = tuple[str, list[Argument]]

# Kinds that the program has objects of.
HELD = frozenset(
    [
        "context",
        "module",
        "function",
        "kernel",
        "library",
        "array",
        "stream",
        "event",
        "graph",
        "graph_node",
        "graph_exec",
        "memory_pool",
        "allocation",
        "link_state",
        "user_object",
        "texture_reference",
    ]
)
NUMBERS = {
    "int": 4,
    "unsigned int": 4,
    "size_t": 8,
    "unsigned long long": 8,
    "cuuint32_t": 4,
    "cuuint64_t": 8,
    "unsigned short": 2,
    "unsigned char": 1,
    "CUdevice": 4,
}
SIZES = (0, 1, 16, 1 << 20, 1 << 40, (1 << 64) - 1)
# Not called here: they end what the other calls need, wait for ever on purpose, or take function pointers that are
# called; each has tests of its own.
LEFT_OUT = {
    "cuCtxDestroy_v2": "ends what all other calls use",
    "cuDevicePrimaryCtxReset_v2": "ends what all other calls use",
    "cuDevicePrimaryCtxRelease_v2": "ends what all other calls use",
    "cuStreamWaitValue32_v2": "waits for ever",
    "cuStreamWaitValue64_v2": "waits for ever",
    "cuStreamBatchMemOp_v2": "may wait for ever",
    "cuGraphAddBatchMemOpNode": "may wait for ever",
    "cuGetExportTable": "hands out private tables",
    "cuGetProcAddress": "hands out functions",
    "cuGetProcAddress_v2": "hands out functions",
    "cuStreamBeginCapture": "leaves a capture under way",
    "cuStreamBeginCapture_v2": "leaves a capture under way",
    "cuStreamBeginCaptureToGraph": "leaves a capture under way",
    "cuThreadExchangeStreamCaptureMode": "changes what later calls answer",
    "cuCtxSetLimit": "changes what later calls answer",
    "cuCtxEnablePeerAccess": "there is one GPU",
    "cuMemHostRegister_v2": "a buffer of the test's must not stay registered",
    "cuMemFreeHost": "a buffer of the test's is no memory of the driver's",
    "cuLinkCreate_v2": "reads as many options as it is told",
    "cuLinkAddData_v2": "needs a link of its own",
    "cuLinkAddFile_v2": "reads files",
    "cuModuleLoad": "reads files",
    "cuLibraryLoadFromFile": "reads files",
    "cuGraphDebugDotPrint": "writes files",
    "cuLogsDumpToFile": "writes files",
    "cuModuleLoadData": "reads as much memory as an image says",
    "cuModuleLoadDataEx": "reads as much memory as an image says",
    "cuModuleLoadFatBinary": "reads as much memory as an image says",
    "cuLibraryLoadData": "reads as much memory as an image says",
}


# Their addresses may be host memory: what is no memory at all ends the program.
UNIFIED = frozenset({"cuMemcpy", "cuMemcpyAsync", "cuMemcpyWithAttributesAsync"})
# How much of an array there is only the server knows: a count beyond the caller's buffer is read to its end.
OF_ARRAYS = frozenset({"cuMemcpyHtoA_v2", "cuMemcpyHtoAAsync_v2", "cuMemcpyAtoH_v2", "cuMemcpyAtoHAsync_v2"})
BUFFER = 8192
# The software GPU's pools wrap around there, and answer wrongly from then on.
OF_POOLS = frozenset({"cuMemAllocAsync", "cuMemAllocFromPoolAsync"})
NO_MEMORY = (["address", "null"], ["address", "junk"])


def _variants(spelled: str, name: str) -> list[Argument] | None:
    """The arguments to try for a parameter, the valid one first; None for a type that the plan cannot make."""
    spelled = spelled.replace(" *", "*").strip()
    if spelled in HANDLE_KINDS:
        kind = "kernel" if spelled == "CUkernel" else HANDLE_KINDS[spelled]
        states = ["valid", "null", "stale", "wrong", "junk"] if kind in HELD else ["null", "junk"]
        return [["handle", kind, state] for state in states]
    if spelled == "CUdeviceptr":
        return [["address", state] for state in ("valid", "null", "inside", "end", "junk")]
    if spelled == "size_t":
        first = 2 if "count" in name.lower() or name.startswith("num") else 16
        return [["number", first, 8], *(["number", n, 8] for n in SIZES)]
    if spelled == "CUdevice":
        return [["number", n, 4] for n in (0, 1, 99, 0xFFFFFFFF)]
    if spelled in NUMBERS:
        width = NUMBERS[spelled]
        return [["number", n & (1 << 8 * width) - 1, width] for n in (0, 1, 2, 64, -1)]
    if spelled == "const char*":
        return [["text", "add_one"], ["text", "no such name"], ["null"]]
    if "(" in spelled or spelled in ("CUhostFn", "CUoccupancyB2DSize") or spelled.endswith("Callback"):
        return [["null"]]
    if spelled.endswith("*"):
        return [["buffer"], ["null"]]
    if spelled.startswith("CU") and not spelled.endswith(("Handle", "Location")):
        return [["number", n, 4] for n in (0, 1, 2, 99)]  # an enumeration
    return None


def make_plan(specification: Specification) -> list[Step]:
    """All calls, in the order of the functions' names."""
    plan: list[Step] = []
    for call in specification.calls.values():
        if call.base or call.call_class is Class.NOT_YET or call.symbol in LEFT_OUT:
            continue
        choices = [_variants(p.type, p.name) for p in named(call.function)]
        if any(c is None for c in choices):
            continue
        known = [c for c in choices if c is not None]
        valid = [c[0] for c in known]
        plan.append((call.symbol, valid))
        for position, choice in enumerate(known):
            for other in choice[1:]:
                if call.symbol in UNIFIED and other in NO_MEMORY:
                    continue
                if call.symbol.startswith("cuMemsetD2D") and other == ["number", (1 << 64) - 1, 8]:
                    continue  # the software GPU sets rows that wrap around the address space
                if call.symbol in OF_POOLS and other == ["number", (1 << 64) - 1, 8]:
                    continue
                if call.symbol in OF_ARRAYS and other[0] == "number" and int(str(other[1])) > BUFFER:
                    continue
                plan.append((call.symbol, [*valid[:position], other, *valid[position + 1 :]]))
    return plan
