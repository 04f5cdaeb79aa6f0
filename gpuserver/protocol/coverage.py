"""`gpuferry coverage`: every exported function of `cuda.h` with its class, or "not yet". Generated, never typed."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from gpuserver.protocol.declare import Class
from gpuserver.protocol.nvml_specification import read_nvml_specification
from gpuserver.protocol.specification import Specification, read_specification

MEANING = {
    Class.LOCAL: "answered from the client's own state",
    Class.CACHED: "answered from a snapshot of session start or module load",
    Class.CREATE: "the client names the object and posts its creation",
    Class.ASYNC: "posted, not awaited",
    Class.SYNC: "posted and awaited: one blocking round trip",
    Class.CUSTOM: "written by hand on both sides, one small file per family",
    Class.REFUSED: "cannot be had by way of a GPU server: answers as NVIDIA's driver where the facility is not there",
    Class.NOT_YET: "exported; answers CUDA_ERROR_NOT_SUPPORTED and logs its name once",
}


OPEN = frozenset({Class.REFUSED.value, Class.NOT_YET.value})  # what is not forwarded


def rows(specification: Specification) -> list[tuple[str, str, str]]:
    """Symbol, class, family. A variant is listed with the class of the symbol that does its work."""
    return [(c.symbol, c.call_class.value, c.declaration.family) for c in specification.calls.values()]


def refusals(specification: Specification) -> list[tuple[str, str, str]]:
    """The refused symbols: what they answer, and why."""
    refused = [c for c in specification.calls.values() if c.call_class is Class.REFUSED]
    return [(c.symbol, c.declaration.answer, c.declaration.reason) for c in refused]


def nvml_rows() -> list[tuple[str, str, str]]:
    """The same of NVML: what is not declared answers NVML_ERROR_NOT_SUPPORTED."""
    calls = read_nvml_specification().calls.values()
    return [(c.symbol, c.declaration.call_class.value, c.declaration.family) for c in calls]


def as_text(specification: Specification) -> str:
    lines = [f"{symbol:<60} {call_class:<8} {family}".rstrip() for symbol, call_class, family in rows(specification)]
    counts = Counter(call_class for _, call_class, _ in rows(specification))
    lines += ["", *(f"{counts[c.value]:>4} {c.value:<8} {MEANING[c]}" for c in Class)]
    done = sum(n for c, n in counts.items() if c not in OPEN)
    lines += ["", *(f"{symbol:<60} {answer}: {reason}" for symbol, answer, reason in refusals(specification)), ""]
    lines += [f"{done:>4} of {len(specification.calls)} functions of CUDA {specification.header.version}", ""]
    lines += [f"{s:<60} {c:<8} {f}" for s, c, f in nvml_rows() if c != Class.NOT_YET.value]
    answered = sum(c != Class.NOT_YET.value for _, c, _ in nvml_rows())
    return "\n".join([*lines, "", f"{answered:>4} of {len(nvml_rows())} functions of NVML\n"])


def as_markdown(specification: Specification) -> str:
    counts = Counter(call_class for _, call_class, _ in rows(specification))
    done = sum(n for c, n in counts.items() if c not in OPEN)
    version = f"{specification.header.version // 1000}.{specification.header.version % 1000 // 10}"
    lines = [
        "# What is forwarded",
        "",
        "Written by `gpuferry coverage --markdown` from `gpuserver/protocol/api/` and `cuda.h` "
        f"{version}; not to be edited.",
        "",
        f"{done} of {len(specification.calls)} exported "
        f"symbols of the CUDA driver API, with their `_ptds`/`_ptsz` variants.",
        "",
        "| class | symbols | what the client does |",
        "|---|---|---|",
        *(f"| {c.value} | {counts[c.value]} | {MEANING[c]} |" for c in Class),
        "",
        "| function | class | family |",
        "|---|---|---|",
        *(f"| `{symbol}` | {call_class} | {family} |" for symbol, call_class, family in rows(specification)),
        "",
        "## What is refused, and why",
        "",
        "| function | answers | because |",
        "|---|---|---|",
        *(f"| `{symbol}` | {answer} | {reason} |" for symbol, answer, reason in refusals(specification)),
        "",
        "## NVML",
        "",
        f"{sum(c != Class.NOT_YET.value for _, c, _ in nvml_rows())} of {len(nvml_rows())} exported symbols; "
        "the others answer NVML_ERROR_NOT_SUPPORTED.",
        "",
        "| function | class | family |",
        "|---|---|---|",
        *(f"| `{s}` | {c} | {f} |" for s, c, f in nvml_rows() if c != Class.NOT_YET.value),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpuferry coverage", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="as `docs/coverage.md` has it")
    options = parser.parse_args(arguments)
    specification = read_specification()
    sys.stdout.write(as_markdown(specification) if options.markdown else as_text(specification))
    return 0
