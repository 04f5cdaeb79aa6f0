"""`gpuferry smi` and `stats` against the appliance: the pool's GPUs with this client's leases, and how those are used.

Python 3.9 with pyzmq alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Dict, List

from clientagent.pool_commands import connected, guarded, table

WIDTH = 77


def _line(text: str) -> str:
    return f"| {text[: WIDTH - 2]:<{WIDTH - 2}} |\n"


def smi(arguments: List[str]) -> int:
    """Tables in the manner of nvidia-smi: every GPU of the pool, then the slices that this client holds."""
    parser = argparse.ArgumentParser(prog="gpuferry smi", description="The pool's GPUs and this client's leases.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    control = connected()
    try:
        gpus, leases, use = control.ask("gpus"), control.ask("leases"), control.ask("stats")
    finally:
        control.link.stop()
    if options.json:
        sys.stdout.write(json.dumps({"gpus": gpus, "leases": leases, "stats": use}, indent=1) + "\n")
        return 0
    rule = "+" + "-" * WIDTH + "+\n"
    out = rule + _line("GPUFERRY-SMI") + rule
    out += _line(f"{'Server':<15} {'GPU  Name':<23} {'Temp':>4} {'Reserved / MiB':>17}  State") + rule
    for gpu in gpus:
        reserved = int(gpu["memory_mib"]) - int(gpu["free_mib"])
        memory = f"{reserved} / {gpu['memory_mib']}"
        heat = f"{gpu['temperature']}C" if gpu.get("temperature") else "N/A"
        out += _line(
            f"{gpu['server'][:15]:<15} {gpu['gpu']:>3}  {gpu['name'][:18]:<18} {heat:>4} {memory:>17}  {gpu['state']}"
        )
    out += rule + _line("Leases of this client") + rule
    sessions: Dict[str, int] = {}
    for row in use:
        sessions[row["lease"]] = sessions.get(row["lease"], 0) + int(row["sessions"])
    for lease in leases:
        place = lease["reason"] if lease["state"] == "queued" else f"{sessions.get(lease['lease'], 0)} sessions"
        out += _line(f"{lease['lease']}  {lease['state']}  {place}  {lease['program']}")
        for part in lease["slices"].split("; ") if lease["slices"] else ():
            out += _line(f"    GPU {part}")
    sys.stdout.write(out + rule)
    return 0


def stats(arguments: List[str]) -> int:
    """How this client's leases are used on each server, as the daemons last reported."""
    parser = argparse.ArgumentParser(prog="gpuferry stats", description="How this client's leases are used.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    control = connected()
    try:
        rows = control.ask("stats")
    finally:
        control.link.stop()
    columns = ("lease", "server", "sessions", "memory_mib", "calls", "round_trips", "bytes", "idle_s", "program")
    sys.stdout.write((json.dumps(rows, indent=1) if options.json else table(rows, columns)) + "\n")
    return 0


smi_main = guarded(smi)
stats_main = guarded(stats)
