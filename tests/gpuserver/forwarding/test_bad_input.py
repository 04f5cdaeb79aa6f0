"""What goes wrong between a program and its GPU server: one line that says what, where and what to do, and an error
that the program can act on. Nothing waits for ever."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from gpu_server import GpuServer, gpu_server, surroundings
from relay import relay
from test_forwarded_isolation import wait_until

from gpuserver.protocol.handshake import MAGIC, PROTOCOL_VERSION, SERVER_HELLO, Refusal
from gpuserver.protocol.specification import read_specification

PROGRAMS = str(Path(__file__).resolve().parent / "driver_api.py")
DEVICE_UNAVAILABLE = 46
NOT_SUPPORTED, INVALID_CONTEXT = 801, 201
LOST = r"gpuferry: the connection to GPU server {} is lost: .+\. Every CUDA call fails from now on\n"


def first_call(variables: dict[str, str]) -> tuple[int, str]:
    """cuInit's result, and what is said on stderr."""
    code = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=surroundings(**variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout), done.stderr


def refused(variables: dict[str, str]) -> str:
    """The one line that is said where no session comes about."""
    result, text = first_call(variables)
    assert result == DEVICE_UNAVAILABLE
    assert re.fullmatch(r"gpuferry: [^\n]+\n", text), text
    return text


def answering(answer: bytes) -> tuple[str, threading.Thread]:
    """A server that takes one hello, says this and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(152, socket.MSG_WAITALL)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return f"127.0.0.1:{listener.getsockname()[1]}", thread


@pytest.mark.parametrize(
    ("version", "specification"), [(PROTOCOL_VERSION + 1, int(read_specification().digest, 16)), (PROTOCOL_VERSION, 7)]
)
def test_another_version_names_both_and_what_to_do(null_server: GpuServer, version: int, specification: int) -> None:
    said = SERVER_HELLO.pack(MAGIC, version, Refusal.VERSION, specification, bytes(16), bytes(32), 0, 0) + bytes(32)
    address, thread = answering(said)
    text = refused(null_server.shim_environment() | {"GPUFERRY_SERVER": address})
    thread.join()
    assert f"GPU server {address} speaks protocol {version}/{specification:016x}" in text
    assert f"this client {PROTOCOL_VERSION}/{read_specification().digest}" in text
    assert "install the same gpuferry release on both" in text


def test_a_stranger_is_no_gpu_server(null_server: GpuServer) -> None:
    address, thread = answering(b"HTTP/1.1 400 Bad Request\r\n" + bytes(200))
    assert f"{address} is not a gpuferry GPU server" in refused(
        null_server.shim_environment() | {"GPUFERRY_SERVER": address}
    )
    thread.join()


def test_a_server_that_says_nothing_is_given_up(null_server: GpuServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        text = refused(null_server.shim_environment() | {"GPUFERRY_SERVER": address})
    assert f"GPU server {address} does not finish the handshake" in text


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("GPUFERRY_SERVER", "", "GPUFERRY_SERVER is not set"),
        ("GPUFERRY_SERVER", "nowhere", "not of the form host:port"),
        ("GPUFERRY_LEASE", "12", "GPUFERRY_LEASE is not 32 hexadecimal digits"),
        ("GPUFERRY_LEASE", "zz", "GPUFERRY_LEASE is not hexadecimal"),
        ("GPUFERRY_SECRET_FILE", "", "GPUFERRY_SECRET_FILE is not set"),
        ("GPUFERRY_SECRET_FILE", "/no/such/file", "cannot read the session's secret from /no/such/file"),
        ("GPUFERRY_DEVICES", "9", "asked for 9 GPU"),
        ("GPUFERRY_MEMORY_MIB", "99999999", "the most free one has"),
    ],
)
def test_bad_settings_say_which(software_server: GpuServer, name: str, value: str, told: str) -> None:
    assert told in refused(software_server.shim_environment() | {name: value})


def test_the_secret_itself_is_never_said(null_server: GpuServer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(secrets.token_hex(32))
    text = refused(null_server.shim_environment() | {"GPUFERRY_SECRET_FILE": str(wrong)})
    assert wrong.read_text() not in text
    assert null_server.secret_file.read_text().strip() not in text + null_server.log.read_text()


def test_a_function_that_is_not_supported_says_its_name_once(software_server: GpuServer) -> None:
    name = next(c.symbol for c in read_specification().calls.values() if c.call_class.value == "not yet" and not c.base)
    code = f"import ctypes; c = ctypes.CDLL('libcuda.so.1'); c.cuInit(0); print([c['{name}']() for _ in range(3)])"
    done = software_server.run(sys.executable, "-c", code, memory_mib=64)
    assert done.stdout == f"{[NOT_SUPPORTED] * 3}\n"
    assert done.stderr == f"gpuferry: {name} is not supported yet: the program gets CUDA_ERROR_NOT_SUPPORTED\n"


def test_a_function_that_is_refused_says_why_once(software_server: GpuServer) -> None:
    code = "import ctypes; c = ctypes.CDLL('libcuda.so.1'); c.cuInit(0); print([c.cuMemAlloc(None, 1) for _ in '123'])"
    done = software_server.run(sys.executable, "-c", code, memory_mib=64)
    assert done.stdout == f"{[INVALID_CONTEXT] * 3}\n"
    told = "cuMemAlloc is refused, the program gets CUDA_ERROR_INVALID_CONTEXT: sizes and addresses of 32 bits"
    assert done.stderr.startswith(f"gpuferry: {told}"), done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_daemon_that_goes_in_mid_call_ends_the_wait(tmp_path: Path) -> None:
    with gpu_server(tmp_path, "softgpu") as server:
        program = server.start(sys.executable, PROGRAMS, "hold", memory_mib=64)
        assert program.stdout is not None
        assert program.stdout.readline() == "holding\n"
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        out, err = program.communicate("\n\n", timeout=120)
    assert out == f"still {DEVICE_UNAVAILABLE}\n"
    assert re.fullmatch(LOST.format(re.escape(server.address)), err)


def test_a_worker_that_is_stopped_and_killed_in_mid_call_ends_the_wait(software_server: GpuServer) -> None:
    wait_until(software_server, 0)
    program = software_server.start(sys.executable, PROGRAMS, "hold", memory_mib=64)
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stdout.readline() == "holding\n"
    (session,) = wait_until(software_server, 1)
    os.kill(session["worker"], signal.SIGSTOP)
    program.stdin.write("\n")  # the program's wait is on its way, and nobody answers
    program.stdin.flush()
    os.kill(session["worker"], signal.SIGKILL)
    out, err = program.communicate("\n", timeout=120)
    assert out == f"still {DEVICE_UNAVAILABLE}\n"
    assert re.fullmatch(LOST.format(re.escape(software_server.address)), err)


# Bytes from the client: in the handshake, in the first request, in the module, in the middle of bulk data.
@pytest.mark.parametrize("cut_at", [10, 100, 152, 184, 200, 400, 1500, 70_000, 5_000_000])
def test_a_link_that_is_cut_anywhere_is_said_and_ends_every_call(software_server: GpuServer, cut_at: int) -> None:
    wait_until(software_server, 0)
    code = f"""
import sys
sys.path.insert(0, {str(Path(PROGRAMS).parent)!r})
from driver_api import Driver
driver = Driver(current=False)
result = driver.call("cuInit", 0)
if result == 0:
    driver = Driver()
    try:
        place, function = driver.allocate(8 << 20), driver.load()
        driver.launch(function, place, 1000)
        driver.upload(place, bytes(8 << 20))
        driver.download(place, 4)
    except AssertionError as error:
        print(error)
    result = driver.call("cuCtxSynchronize")
print(result)
"""
    with relay(software_server.address) as link:
        link.cut_at = cut_at
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=surroundings(**(software_server.shim_environment(64) | {"GPUFERRY_SERVER": link.address})),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(DEVICE_UNAVAILABLE)
    assert re.fullmatch(rf"gpuferry: [^\n]*{re.escape(link.address)}[^\n]*\n", done.stderr), done.stderr
    wait_until(software_server, 0)
