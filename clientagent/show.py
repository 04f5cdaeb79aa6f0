"""`gpuferry list`, `smi`, `version`: what a GPU server has, without starting a program.

Only the standard library and the protocol's handshake here: this file runs on every client VM, on Python 3.9.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List

from clientagent.program import RunError, ask_inventory
from clientagent.run import read_secret
from gpuserver.protocol.handshake import PROTOCOL_VERSION


def _ask(command: str, arguments: List[str]) -> Dict[str, Any]:
    parser = argparse.ArgumentParser(prog=f"gpuferry {command}")
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="the GPU server")
    parser.add_argument("--secret-file", type=Path, required=True, help="the server's shared secret")
    options = parser.parse_args(arguments)
    return ask_inventory(options.server, read_secret(options.secret_file))


def _refuse(command: str, error: RunError) -> int:
    sys.stderr.write(f"gpuferry {command}: {error}\n")
    return 1


def list_gpus(arguments: List[str]) -> int:
    """One line a GPU, one line a session."""
    try:
        inventory = _ask("list", arguments)
    except RunError as error:
        return _refuse("list", error)
    for gpu in inventory["gpus"]:
        free = gpu["memory_total_mib"] - gpu["memory_used_mib"]
        sys.stdout.write(
            f"GPU {gpu['ordinal']}  {gpu['name']}  {gpu['uuid']}  {free} of {gpu['memory_total_mib']} MiB free\n"
        )
    for session in inventory["sessions"]:
        shares = ", ".join(f"GPU {g['ordinal']}: {g['memory_mib'] or 'all'} MiB" for g in session["gpus"])
        sys.stdout.write(
            f"session  {session['program']} (process {session['process']} at {session['peer']})  {shares}\n"
        )
    return 0


def _known(value: Any, unit: str) -> str:
    return "N/A" if value is None else f"{value}{unit}"


def smi(arguments: List[str]) -> int:
    """A table in the manner of nvidia-smi."""
    try:
        inventory = _ask("smi", arguments)
    except RunError as error:
        return _refuse("smi", error)
    line = "+" + "-" * 77 + "+\n"
    version = inventory["gpus"][0]["driver_version"] if inventory["gpus"] else "unknown"
    sys.stdout.write(line + f"| {'GPUFERRY-SMI':<20} Driver Version: {version:<39} |\n" + line)
    sys.stdout.write(f"| {'GPU  Name':<32} {'Bus-Id':<17} {'Temp':>6} {'GPU-Util':>9} {'':>8} |\n")
    for gpu in inventory["gpus"]:
        temperature, use = _known(gpu["temperature"], "C"), _known(gpu["utilisation"], "%")
        sys.stdout.write(
            f"| {gpu['ordinal']:>3}  {gpu['name']:<27} {gpu['pci_bus_id']:<17} {temperature:>6} {use:>9} {'':>8} |\n"
        )
        memory = f"{gpu['memory_used_mib']}MiB / {gpu['memory_total_mib']}MiB"
        sys.stdout.write(f"|      {memory:<70} |\n")
    sys.stdout.write(line)
    for session in inventory["sessions"]:
        text = f"{session['worker']:>8}  {session['program']} of {session['peer']}"
        sys.stdout.write(f"| {text:<75} |\n")
    sys.stdout.write(line)
    return 0


def version(arguments: List[str]) -> int:
    """The versions that must agree with the server's."""
    if arguments:
        sys.stderr.write("gpuferry version takes no arguments\n")
        return 2
    from importlib import metadata

    try:
        release = metadata.version("gpuferry")
    except metadata.PackageNotFoundError:
        release = "source tree"
    sys.stdout.write(f"gpuferry {release}, protocol {PROTOCOL_VERSION}\n")
    return 0
