"""`gpuferry stats --server` and `smi --server`: what sessions cost and hold, from the daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gpu_server import GpuServer, read_stats, surroundings
from test_forwarded_isolation import wait_until

from clientagent import server_stats

PROGRAMS = str(Path(__file__).resolve().parent / "driver_api.py")


def ask(server: GpuServer, subcommand: str, *more: str) -> str:
    command = [sys.executable, "-m", "clientagent.command", subcommand]
    where = ["--server", server.address, "--secret-file", str(server.secret_file)]
    done = subprocess.run(
        [*command, *where, *more], env=surroundings(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_live_session_and_what_its_program_has_cost(software_server: GpuServer) -> None:
    wait_until(software_server, 0)
    program = software_server.start(sys.executable, PROGRAMS, "hold", memory_mib=64)
    assert program.stdout is not None
    assert program.stdout.readline() == "holding\n"
    shown = json.loads(ask(software_server, "stats", "--json", "--interval", "0.1"))
    (session,) = shown["sessions"]
    assert session["process"] == program.pid
    assert session["memory_mib"] == 48
    assert session["calls_a_second"] == 0
    assert session["round_trips"] == 2  # the session's opening, the wait
    assert shown["programs"][session["program"]]["sessions"] >= 1
    text = ask(software_server, "stats", "--interval", "0.1", "--readings", "2")
    assert text.count("calls/s") == 2
    table = ask(software_server, "smi")
    assert f"{program.pid}" in table
    assert "48MiB / 64MiB" in table
    assert len({len(line) for line in table.splitlines()}) == 1
    program.communicate("\n\n", timeout=60)
    wait_until(software_server, 0)


def test_server_and_client_count_alike(software_server: GpuServer) -> None:
    """The program's own counts at its end are the daemon's."""
    wait_until(software_server, 0)
    before = json.loads(ask(software_server, "stats", "--json", "--interval", "0"))["programs"]
    done = software_server.run(sys.executable, PROGRAMS, "training_loop", memory_mib=64, GPUFERRY_STATS="1")
    assert done.returncode == 0, done.stderr
    own = read_stats(done.stderr)
    wait_until(software_server, 0)
    after = json.loads(ask(software_server, "stats", "--json", "--interval", "0"))["programs"]
    (name,) = [n for n in after if after[n] != before.get(n)]
    first = before.get(name, dict.fromkeys(after[name], 0))
    cost = {key: after[name][key] - first[key] for key in after[name]}
    assert cost["sessions"] == 1
    assert cost["round_trips"] == own.round_trips
    assert cost["calls"] == own.posts + own.round_trips
    assert cost["launches"] > 0


def test_rates_are_of_sessions_that_both_readings_know() -> None:
    def reading(**calls: int) -> dict[str, object]:
        return {"sessions": [{"worker": int(w[1:]), "cost": {"calls": n}} for w, n in calls.items()]}

    assert server_stats.rates(reading(w1=100, w2=5), reading(w1=300, w3=7), 2.0) == {"1": 100.0}
