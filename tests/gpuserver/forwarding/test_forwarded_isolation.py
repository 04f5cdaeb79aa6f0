"""Sessions keep to themselves: killed clients and workers, wrong secrets and versions, bytes of strangers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from gpu_server import GpuServer, surroundings

from clientagent.run import ask_inventory
from gpuserver.protocol.handshake import CLIENT_HELLO, MAGIC, PROTOCOL_VERSION, SERVER_HELLO, Refusal
from gpuserver.protocol.specification import read_specification

PROGRAMS = str(Path(__file__).resolve().parent / "driver_api.py")


def inventory(server: GpuServer) -> dict[str, Any]:
    return ask_inventory(server.address, bytes.fromhex(server.secret_file.read_text().strip()))


def sessions(server: GpuServer) -> list[dict[str, Any]]:
    return list(inventory(server)["sessions"])


def wait_until(server: GpuServer, count: int) -> list[dict[str, Any]]:
    """Until the server has this many sessions; an assertion error after ten seconds."""
    for _ in range(200):
        if len(found := sessions(server)) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{len(found)} sessions instead of {count}")


def holder(server: GpuServer) -> subprocess.Popen[str]:
    process = server.start(sys.executable, PROGRAMS, "hold", memory_mib=64)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate("\n\n", timeout=30)
    return out


def used_mib(server: GpuServer) -> int:
    return int(inventory(server)["gpus"][0]["memory_used_mib"])


def test_a_killed_client_leaves_nothing_and_others_go_on(software_server: GpuServer) -> None:
    before = used_mib(software_server)
    first, second = holder(software_server), holder(software_server)
    wait_until(software_server, 2)
    assert used_mib(software_server) >= before + 96
    first.kill()
    first.wait()
    wait_until(software_server, 1)
    assert finish(second) == "still 0\n"
    wait_until(software_server, 0)
    assert used_mib(software_server) == before


def test_a_killed_worker_ends_its_session_alone(software_server: GpuServer) -> None:
    first, second = holder(software_server), holder(software_server)
    by_process = {s["process"]: s["worker"] for s in wait_until(software_server, 2)}
    os.kill(by_process[first.pid], signal.SIGKILL)
    wait_until(software_server, 1)
    out, err = first.communicate("\n\n", timeout=30)
    assert out == "still 46\n"  # CUDA_ERROR_DEVICE_UNAVAILABLE
    assert f"the connection to GPU server {software_server.address} is lost" in err
    assert finish(second) == "still 0\n"
    wait_until(software_server, 0)


def test_exit_status_and_signals_are_the_programs_own(null_server: GpuServer) -> None:
    assert null_server.run("sh", "-c", "exit 7").returncode == 7
    assert null_server.run("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert null_server.run("/no/such/program").returncode == 127


def first_call(server: GpuServer, **changed: str) -> tuple[int, str]:
    """cuInit's result in a process with these settings, and what it says on stderr."""
    code = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=surroundings(**(server.shim_environment() | changed)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr


def test_a_wrong_secret_is_refused_with_one_clear_line(null_server: GpuServer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(secrets.token_hex(32))
    result, text = first_call(null_server, GPUFERRY_SECRET_FILE=str(wrong))
    assert result == 46
    assert text.count("\n") == 1
    assert "does not know this session's secret" in text


def test_no_server_is_said_with_one_clear_line(null_server: GpuServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = f"127.0.0.1:{taken.getsockname()[1]}"
    result, text = first_call(null_server, GPUFERRY_SERVER=free)
    assert result == 46
    assert text.count("\n") == 1
    assert f"cannot reach the GPU server {free}" in text


def test_a_server_that_asks_for_more_than_there_is_refuses(software_server: GpuServer) -> None:
    result, text = first_call(software_server, GPUFERRY_MEMORY_MIB="1000000")
    assert result == 46
    assert text.count("\n") == 1


def hello(server: GpuServer, version: int, specification: int) -> bytes:
    return CLIENT_HELLO.pack(
        MAGIC, version, 0, specification, bytes(16), bytes(16), secrets.token_bytes(32), 0, 0, b"test", 0, 0, 0
    )


def dial(server: GpuServer) -> socket.socket:
    host, port = server.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


@pytest.mark.parametrize(("version", "specification"), [(PROTOCOL_VERSION + 1, None), (PROTOCOL_VERSION, 1)])
def test_another_version_is_refused_with_both_named(
    null_server: GpuServer, version: int, specification: int | None
) -> None:
    own = int(read_specification().digest, 16)
    with dial(null_server) as connection:
        connection.sendall(hello(null_server, version, own if specification is None else specification))
        answer = SERVER_HELLO.unpack(connection.recv(SERVER_HELLO.size, socket.MSG_WAITALL))
    assert answer[2] == Refusal.VERSION
    assert (answer[1], answer[3]) == (PROTOCOL_VERSION, own)


def test_bytes_of_strangers_do_not_disturb_the_daemon(null_server: GpuServer) -> None:
    dice = random.Random(1)
    for _ in range(200):
        with dial(null_server) as connection:
            data = bytearray(hello(null_server, PROTOCOL_VERSION, int(read_specification().digest, 16)))
            if dice.random() < 0.5:
                data = bytearray(dice.randbytes(dice.randrange(1, 400)))
            else:
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
                data += dice.randbytes(32)
            with contextlib.suppress(OSError):  # the daemon may have closed already
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            while True:
                try:
                    if not connection.recv(4096):
                        break
                except ConnectionError:
                    break
    assert null_server.process.poll() is None
    assert sessions(null_server) == []
    assert json.dumps(inventory(null_server)["gpus"]) == "[]"
    assert null_server.run(sys.executable, PROGRAMS, "first_launch").returncode == 0


def test_a_worker_leaves_programs_their_addresses(software_server: GpuServer) -> None:
    """Registered memory gets its own address on the server: nothing of the worker's is where programs have theirs."""
    process = holder(software_server)
    worker = int(wait_until(software_server, 1)[0]["worker"])
    maps = [line.split(maxsplit=5) for line in Path(f"/proc/{worker}/maps").read_text().splitlines()]
    # Linux puts libraries, stacks and large allocations right under the end of the address space, which is 128 TiB.
    high = [line[-1].strip() for line in maps if int(line[0].split("-")[1], 16) > 112 << 40]
    assert set(high) <= {"[stack]", "[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]"}
    limits = Path(f"/proc/{worker}/limits").read_text()
    assert f"{96 << 40}" not in limits  # of the stack, as it was only while the worker began
    finish(process)
