"""`gpuferry stats --server`: what the sessions of one GPU server cost, live, and what its programs have cost so far.

A program's own account at its end: `GPUFERRY_STATS=1 gpuferry run …`. Only the standard library here, on Python 3.9.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

from clientagent.program import RunError, ask_inventory
from clientagent.run import read_secret

COLUMNS = ("calls", "launches", "round_trips", "bytes_in", "bytes_out")
TITLES = ("calls", "launches", "blocking", "MiB in", "MiB out")


def _amounts(cost: Dict[str, int]) -> List[str]:
    return [f"{cost[c] / (1 << 20):.1f}" if c.startswith("bytes") else str(cost[c]) for c in COLUMNS]


def rates(before: Dict[str, Any], now: Dict[str, Any], seconds: float) -> Dict[str, float]:
    """Calls a second of every session that both readings know, by the process of its worker."""
    first = {session["worker"]: session["cost"]["calls"] for session in before["sessions"]}
    return {
        str(session["worker"]): (session["cost"]["calls"] - first[session["worker"]]) / seconds
        for session in now["sessions"]
        if session["worker"] in first
    }


def report(inventory: Dict[str, Any], calls_a_second: Dict[str, float]) -> Dict[str, Any]:
    """What `--json` prints: live sessions, and programs since the server's start."""
    sessions = []
    for session in inventory["sessions"]:
        sessions.append(
            {
                "program": session["program"],
                "process": session["process"],
                "peer": session["peer"],
                "memory_mib": sum(share["used_mib"] for share in session["gpus"]),
                "calls_a_second": calls_a_second.get(str(session["worker"])),
                **session["cost"],
            }
        )
    return {"sessions": sessions, "programs": inventory["programs"]}


def as_text(shown: Dict[str, Any]) -> str:
    """Two tables."""
    heads = ("session", "process", "client", "MiB", "calls/s", *TITLES)
    rows = []
    for each in shown["sessions"]:
        rate = "-" if each["calls_a_second"] is None else f"{each['calls_a_second']:.0f}"
        rows.append([each["program"], str(each["process"]), each["peer"], str(each["memory_mib"]), rate])
        rows[-1] += _amounts(each)
    text = _table(heads, rows, left=3)
    totals = [[name, str(cost["sessions"]), *_amounts(cost)] for name, cost in sorted(shown["programs"].items())]
    return text + "\n" + _table(("program", "sessions", *TITLES), totals, left=1)


def _table(heads: Any, rows: List[List[str]], left: int) -> str:
    widths = [max(len(line[i]) for line in [list(heads), *rows]) for i in range(len(heads))]
    lines = []
    for line in [list(heads), *rows]:
        cells = [f"{c:<{widths[i]}}" if i < left else f"{c:>{widths[i]}}" for i, c in enumerate(line)]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpuferry stats", description="What the sessions of a GPU server cost.")
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="the GPU server")
    parser.add_argument("--secret-file", type=Path, required=True, help="the server's shared secret")
    parser.add_argument("--json", action="store_true", help="as JSON, one object a reading")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two readings (1)")
    parser.add_argument("--readings", type=int, default=1, help="how many reports, 0 for ever (1)")
    options = parser.parse_args(arguments)
    try:
        secret = read_secret(options.secret_file)
        before = ask_inventory(options.server, secret)
        done = 0
        while True:
            start = time.monotonic()
            time.sleep(options.interval)
            now = ask_inventory(options.server, secret)
            shown = report(now, rates(before, now, max(time.monotonic() - start, 1e-6)))
            sys.stdout.write(json.dumps(shown) + "\n" if options.json else as_text(shown))
            sys.stdout.flush()
            done += 1
            if done == options.readings:
                return 0
            before = now
    except RunError as error:
        sys.stderr.write(f"gpuferry stats: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
