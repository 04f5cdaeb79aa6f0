"""Several processes of one lease: together they get exactly the slice, by every way of allocating, and what one that
dies held comes back to the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from gpu_server import GpuServer, surroundings
from test_forwarded_isolation import inventory, sessions, used_mib, wait_until

PROGRAM = Path(__file__).resolve().parent / "slice_sharing.py"
SLICE_MIB = 64
PIECES = SLICE_MIB // 2
OUT_OF_MEMORY = 2
DEVICE_UNAVAILABLE = 46


class Process:
    """One process of the lease; `ask` sends it a command and returns its answer."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.running = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            env=surroundings(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"

    def say(self, command: str) -> None:
        assert self.running.stdin is not None
        self.running.stdin.write(command + "\n")
        self.running.stdin.flush()

    def answer(self) -> str:
        assert self.running.stdout is not None
        return self.running.stdout.readline().strip()

    def ask(self, command: str) -> str:
        self.say(command)
        return self.answer()

    def kill(self) -> None:
        self.running.kill()
        self.running.wait()

    def quit(self) -> None:
        if self.running.poll() is None:
            self.say("quit")
        self.running.communicate(timeout=60)


def account_of(variables: dict[str, str]) -> Path:
    """Where the processes of a lease count together."""
    return Path(f"/dev/shm/gpuferry-slice-{os.geteuid()}-{variables['GPUFERRY_LEASE']}")


@contextmanager
def lease(server: GpuServer, count: int) -> Iterator[list[Process]]:
    """That many processes which share one slice."""
    variables = server.shim_environment(SLICE_MIB)
    with ExitStack() as ends:
        processes = []
        for _ in range(count):
            process = Process(variables)
            ends.callback(process.quit)
            processes.append(process)
        yield processes


@pytest.mark.parametrize("way", ["plain", "pitch", "pool", "managed", "physical", "array"])
def test_processes_share_the_slice_exactly(software_server: GpuServer, way: str) -> None:
    with lease(software_server, 3) as processes:
        for process in processes:  # all at once
            process.say(f"take {way}")
        taken, errors = zip(*(map(int, process.answer().split()) for process in processes), strict=True)
        assert sum(taken) == PIECES
        assert set(errors) == {OUT_OF_MEMORY}
        for process in processes:
            assert process.ask("info") == f"0 {SLICE_MIB}"
            assert process.ask("check") == "0"  # and the server has taken all of it
        giver = processes[taken.index(max(taken))]
        assert giver.ask("free 1") == "freed"
        others = [p for p in processes if p is not giver]
        assert others[0].ask(f"one {way}") == "1 0"
        assert others[1].ask(f"one {way}") == f"0 {OUT_OF_MEMORY}"
        assert others[0].ask("check") == "0"
    wait_until(software_server, 0)


def test_what_a_killed_process_held_comes_back(software_server: GpuServer) -> None:
    wait_until(software_server, 0)
    before = used_mib(software_server)
    with lease(software_server, 2) as (victim, other):
        assert victim.ask("take plain") == f"{PIECES} {OUT_OF_MEMORY}"
        assert victim.ask("check") == "0"
        assert other.ask("one plain") == f"0 {OUT_OF_MEMORY}"
        victim.kill()
        assert other.ask("info") == f"{SLICE_MIB} {SLICE_MIB}"
        # Its worker may live a moment longer: the server waits for its end instead of refusing.
        assert other.ask("take plain") == f"{PIECES} {OUT_OF_MEMORY}"
        assert other.ask("check") == "0"
        wait_until(software_server, 1)
        assert used_mib(software_server) - before >= SLICE_MIB
    wait_until(software_server, 0)
    assert used_mib(software_server) == before


def test_what_a_killed_worker_held_comes_back(software_server: GpuServer) -> None:
    with lease(software_server, 2) as (victim, other):
        assert victim.ask("take plain") == f"{PIECES} {OUT_OF_MEMORY}"
        assert victim.ask("check") == "0"
        by_process = {s["process"]: s["worker"] for s in wait_until(software_server, 2)}
        os.kill(by_process[victim.running.pid], signal.SIGKILL)
        wait_until(software_server, 1)
        # It notices with its next calls: a posted one fails the program, or the wait says so.
        assert victim.ask("check") in ("", str(DEVICE_UNAVAILABLE))
        assert other.ask("take plain") == f"{PIECES} {OUT_OF_MEMORY}"
        assert other.ask("check") == "0"


def test_memory_is_back_within_a_second(software_server: GpuServer) -> None:
    """The one promise of time: measured where the server counts it, with ten tries for a busy machine."""
    wait_until(software_server, 0)
    before = used_mib(software_server)
    for _ in range(10):
        with lease(software_server, 1) as (victim,):
            assert victim.ask("take plain") == f"{PIECES} {OUT_OF_MEMORY}"
            assert victim.ask("check") == "0"
            victim.kill()
            killed = time.monotonic()
            while sessions(software_server):
                assert time.monotonic() - killed < 60
                time.sleep(0.01)
            took = time.monotonic() - killed
            assert used_mib(software_server) == before
        if took < 1:
            return
    raise AssertionError(f"memory was back after {took:.2f} s at best")


def test_the_server_holds_the_slice_even_where_clients_do_not_count_together(software_server: GpuServer) -> None:
    """Processes that share no memory, as on two machines: the server refuses what is too much."""
    variables = software_server.shim_environment(SLICE_MIB)
    in_the_way = account_of(variables)
    in_the_way.mkdir()
    try:
        first, second = Process(variables), Process(variables)
        assert first.ask("take plain") == f"{PIECES} {OUT_OF_MEMORY}"
        assert first.ask("check") == "0"
        # The allocation itself is posted; what the server found is reported by the call that waits.
        assert second.ask("one managed") == "1 0"
        assert second.ask("check") == str(OUT_OF_MEMORY)
        assert first.ask("check") == "0"
        first.quit()
        second.quit()
    finally:
        in_the_way.rmdir()
    wait_until(software_server, 0)


def test_the_daemon_counts_what_sessions_cost(software_server: GpuServer) -> None:
    with lease(software_server, 1) as (process,):
        assert process.ask("take plain") == f"{PIECES} {OUT_OF_MEMORY}"
        assert process.ask("check") == "0"
        (session,) = wait_until(software_server, 1)
        cost = session["cost"]
        assert session["gpus"][0]["used_mib"] == SLICE_MIB
        assert cost["calls"] >= PIECES
        assert cost["round_trips"] >= 2  # the session's opening, the wait
        assert cost["bytes_in"] >= 24 * cost["calls"]
        assert cost["bytes_out"] > 1000  # the snapshot
    wait_until(software_server, 0)
    program = inventory(software_server)["programs"][session["program"]]
    assert program["calls"] >= cost["calls"]


def test_an_account_is_removed_with_its_last_process(software_server: GpuServer) -> None:
    variables = software_server.shim_environment(SLICE_MIB)
    name = account_of(variables)
    first, second = Process(variables), Process(variables)
    assert name.exists()
    first.quit()
    assert name.exists()
    second.kill()
    assert name.exists()  # nobody was left to remove it
    third = Process(software_server.shim_environment(SLICE_MIB))
    assert not name.exists()
    third.quit()


def test_threads_of_many_processes_never_exceed_it(software_server: GpuServer) -> None:
    """Taking and giving back at the same time, many times: the account ends where it began."""
    with lease(software_server, 3) as processes:

        def work(process: Process) -> None:
            for _ in range(10):
                count = int(process.ask("take plain").split()[0])
                assert process.ask(f"free {count}") == "freed"

        threads = [threading.Thread(target=work, args=(p,)) for p in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for process in processes:
            assert process.ask("info") == f"{SLICE_MIB} {SLICE_MIB}"
            assert process.ask("check") == "0"
