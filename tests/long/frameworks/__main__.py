"""Unmodified frameworks on the software GPU, natively and forwarded: the same output?

    python -m tests.long.frameworks prepare NAME FOLDER            install the framework NAME in FOLDER (GiBs)
    python -m tests.long.frameworks run NAME FOLDER [CASE ...]     its cases, or these; prints a Markdown table
    python -m tests.long.frameworks list                           frameworks and their cases

NAME is a file of `environments/`. Not part of `make test`: they are large. docs/frameworks.md has the outcome.
The exit status of `run` is 0 when every case agrees. What the programs said lies in FOLDER.logs.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from tests.long.frameworks import environments
from tests.long.frameworks.comparison import compare
from tests.long.frameworks.framework import Framework

HEAD = "| case | outputs | round trips | posts | native s | forwarded s |\n|---|---|---:|---:|---:|---:|"


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(environments.__path__))


def framework_of(name: str) -> Framework:
    module = importlib.import_module(f"{environments.__name__}.{name}")
    found = module.FRAMEWORK
    assert isinstance(found, Framework)
    return found


def run_cases(framework: Framework, folder: Path, chosen: list[str]) -> int:
    unknown = set(chosen) - {case.name for case in framework.cases}
    if unknown:
        sys.stderr.write(f"no such case: {', '.join(sorted(unknown))}\n")
        return 2
    logs = folder.parent / f"{folder.name}.logs"
    logs.mkdir(exist_ok=True)
    good = True
    print(HEAD, flush=True)
    for case in framework.cases:
        if not chosen or case.name in chosen:
            outcome = compare(framework, folder, case, logs)
            good = good and outcome.good
            print(outcome.row(), flush=True)
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list")
    for action in ("prepare", "run"):
        of_framework = actions.add_parser(action)
        of_framework.add_argument("name", choices=names())
        of_framework.add_argument("folder", type=Path)
        if action == "run":
            of_framework.add_argument("case", nargs="*")
    options = parser.parse_args()
    if options.action == "list":
        for name in names():
            print(name, *(case.name for case in framework_of(name).cases))
        return 0
    framework, folder = framework_of(options.name), options.folder.resolve()
    if options.action == "prepare":
        framework.prepare(folder)
        return 0
    return run_cases(framework, folder, options.case)


if __name__ == "__main__":
    sys.exit(main())
