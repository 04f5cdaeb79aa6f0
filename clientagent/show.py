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


WIDTH = 89


def _row(text: str) -> str:
    return f"| {text:<{WIDTH - 2}} |\n"


def smi(arguments: List[str]) -> int:
    """Tables in the manner of nvidia-smi: the server's GPUs, then the sessions with what they hold of their slices."""
    try:
        inventory = _ask("smi", arguments)
    except RunError as error:
        return _refuse("smi", error)
    rule = "+" + "-" * WIDTH + "+\n"
    version = inventory["gpus"][0]["driver_version"] if inventory["gpus"] else "unknown"
    out = rule + _row(f"{'GPUFERRY-SMI':<44} Driver Version: {version}") + rule
    out += _row(f"{'GPU  Name':<35} {'Bus-Id':<17} {'Temp':>5} {'GPU-Util':>8} {'Memory-Usage':>18}") + rule
    for gpu in inventory["gpus"]:
        temperature, use = _known(gpu["temperature"], "C"), _known(gpu["utilisation"], "%")
        memory = f"{gpu['memory_used_mib']}MiB / {gpu['memory_total_mib']}MiB"
        name = f"{gpu['ordinal']:>3}  {gpu['name'][:30]}"
        out += _row(f"{name:<35} {gpu['pci_bus_id']:<17} {temperature:>5} {use:>8} {memory:>18}")
    out += (
        rule + _row("Sessions") + _row(f"{'GPU':>3} {'Process':>9}  {'Program':<28} {'Client':<22} Used / Slice") + rule
    )
    for session in inventory["sessions"]:
        for share in session["gpus"]:
            slice_ = f"{share['memory_mib']}MiB" if share["memory_mib"] else "all"
            who = f"{session['process']:>9}  {session['program'][:28]:<28} {session['peer'][:22]:<22}"
            out += _row(f"{share['ordinal']:>3} {who} {share['used_mib']}MiB / {slice_}")
    sys.stdout.write(out + rule)
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
