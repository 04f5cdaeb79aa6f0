"""`gpuferry run`: run a program on GPUs of the pool, for as long as it runs.

    gpuferry run -n 1 -m 8192 -- python train.py                  asks the appliance for a lease
    gpuferry run --server HOST:PORT --secret-file FILE -- ...     on GPU servers without an appliance

The program replaces this process: its exit status, its output and the signals it gets are its own. The lease is kept
by a process beside it (clientagent/keeper.py). Python 3.9 with pyzmq alone.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

from clientagent.lease_options import add_lease_options, request_from
from clientagent.program import (
    RunError,
    ask_inventory,
    become,
    check_program,
    find_shim,
    lease_settings,
    program_environment,
)


def read_secret(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text().split()[0])
    except (OSError, ValueError, IndexError) as error:
        raise RunError(f"cannot read the secret from {path}: {error}") from error


def parse(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpuferry run", description="Run a program on GPUs of the pool.")
    add_lease_options(parser)
    alone = parser.add_argument_group("on GPU servers without an appliance")
    alone.add_argument(
        "--server", metavar="HOST:PORT", action="append", help="a GPU server; of several, the first are used up first"
    )
    alone.add_argument(
        "--secret-file", type=Path, action="append", help="its shared secret; one for all servers, or one for each"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, help="-- program and its arguments")
    options = parser.parse_args(arguments)
    if options.program[:1] == ["--"]:
        del options.program[0]
    if not options.program:
        parser.error("no program given: gpuferry run -n 1 -m 1024 -- program …")
    if (options.server is None) != (options.secret_file is None):
        parser.error("--server and --secret-file go together; without both, the appliance is asked")
    if options.server:
        if len(options.secret_file) not in (1, len(options.server)):
            parser.error("give one --secret-file for all servers, or one for each --server")
        if options.gpus < 1 or (options.memory_mib is not None and options.memory_mib < 1):
            parser.error("-n and -m must be at least 1")
        if options.fraction or options.compute or options.filters or options.timeout or options.duration:
            parser.error("a server without an appliance knows -n and -m alone")
    return options


def run_alone(options: argparse.Namespace) -> int:
    """On servers of the user's own choice, under their shared secrets."""
    files = [file.resolve() for file in options.secret_file]
    gpus: List[Dict[str, Any]] = []
    used: List[Tuple[str, Path, int]] = []  # server, secret, how many of its GPUs
    for number, server in enumerate(options.server):
        file = files[number] if len(files) > 1 else files[0]
        missing = options.gpus - len(gpus)
        there = ask_inventory(server, read_secret(file))["gpus"]
        # The last one says itself what it lacks.
        share = missing if number == len(options.server) - 1 else min(missing, len(there))
        gpus += there[:share]
        if share:
            used.append((server, file, share))
    settings = lease_settings(
        [server for server, *_ in used],
        secrets.token_bytes(16),
        [file for _, file, _ in used],
        [share for *_, share in used],
    )
    settings["GPUFERRY_MEMORY_MIB"] = str(options.memory_mib or 0)
    return become("run", options.program, program_environment(find_shim(), settings, gpus))


def run_in_pool(options: argparse.Namespace) -> int:
    """Under a lease of the appliance."""
    # Not needed, nor pyzmq, on a server without an appliance.
    from clientagent.control import find_identity
    from clientagent.keeper import hear_keeper, start_keeper
    from gpuserver.protocol.control.curve import IdentityError

    shim = find_shim()
    missing = check_program("run", options.program)
    if missing:
        return missing
    try:
        identity = find_identity()
    except IdentityError as unknown:
        raise RunError(f"{unknown} (or name one GPU server: --server HOST:PORT --secret-file FILE)") from unknown
    found = hear_keeper(start_keeper(identity, request_from(options, "", program=" ".join(options.program))))
    return become("run", options.program, program_environment(shim, found["settings"], found["gpus"]))


def main(arguments: List[str]) -> int:
    options = parse(arguments)
    try:
        return run_alone(options) if options.server else run_in_pool(options)
    except RunError as error:
        sys.stderr.write(f"gpuferry run: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
