"""The client's commands against a running appliance, and that they need nothing but Python 3.9 and pyzmq."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from bus_site import BusSite, free_port
from sqlalchemy import Engine, select

from appliance.state.database import reading
from appliance.state.models import Distance, Lease, Reading
from clientagent import pool_commands
from clientagent.command import SUBCOMMANDS
from clientagent.command import main as gpuferry
from gpuserver.protocol.control import path
from gpuserver.protocol.control.codec import KINDS, _decoders

ROOT = Path(__file__).resolve().parents[2]


def eventually(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture
def site(engine: Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusSite]:
    monkeypatch.setenv("GPUFERRY_IDENTITY", str(tmp_path / "client" / "identity.json"))
    site = BusSite(tmp_path / "site", engine, database_url)
    site.start()
    yield site
    site.close()


@pytest.fixture
def agent(site: BusSite) -> Iterator[subprocess.Popen[str]]:
    assert gpuferry(["enrol", str(site.ticket("client")), "--name", "ada"]) == 0
    command = [sys.executable, "-m", "clientagent.command", "agent"]
    process = subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    yield process
    if process.poll() is None:
        process.terminate()
    assert process.wait(20) == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_request_client_list_release(
    site: BusSite, agent: subprocess.Popen[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    host = site.add_server("s0", gpus=2)
    eventually(lambda: any(instance == "agent" for _, instance in site.loop.presence._routes))
    capfd.readouterr()
    assert gpuferry(["request", "-n", "2", "-m", "2048", "--compute", "25", "--filter", "device.name~=a100"]) == 0
    assert capfd.readouterr().out.splitlines() == [f"GPU {i}: 2048 MiB of GPU-s0-{i} on s0" for i in range(2)]
    assert gpuferry(["request", "-n", "1"]) == 1
    assert "is held already" in capfd.readouterr().err
    (held,) = host.held()
    order = host.table.grant(held.lease)
    assert order is not None
    assert [each.compute for each in order.slices] == [250, 250]
    assert json.loads(pool_commands.lease_file().read_text())["grants"][0]["secret"] == order.secret
    # This daemon has no data plane: no program is started on what cannot be reached.
    assert gpuferry(["client", "--", "echo", "never"]) == 1
    said = capfd.readouterr()
    assert (said.out, "cannot reach the GPU server s0:4751" in said.err) == ("", True)
    assert pool_commands.lease_file().stat().st_mode & 0o077 == 0
    assert gpuferry(["client", "--", "no-such-program"]) == 127
    assert gpuferry(["list", "--json"]) == 0
    out = capfd.readouterr().out
    assert [row["free_mib"] for row in json.loads(out)] == ["14336", "14336"]
    assert gpuferry(["list", "leases"]) == 0
    assert f"{held.lease}  active" in capfd.readouterr().out
    assert gpuferry(["list", "servers"]) == 0
    assert "s0:4751" in capfd.readouterr().out
    assert gpuferry(["release"]) == 0
    eventually(lambda: host.held() == ())
    assert gpuferry(["release"]) == 1
    assert gpuferry(["client", "--", "true"]) == 1
    assert "no lease is held" in capfd.readouterr().err


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_killed_agent_loses_what_it_kept(site: BusSite, agent: subprocess.Popen[str]) -> None:
    host = site.add_server("s0", gpus=1)
    eventually(lambda: any(instance == "agent" for _, instance in site.loop.presence._routes))
    assert gpuferry(["request", "-m", "100"]) == 0
    assert len(host.held()) == 1
    agent.terminate()
    assert agent.wait(20) == 0
    eventually(lambda: host.held() == ())
    with reading(site.engine) as session:
        assert session.scalars(select(Lease.reason)).one() == "the agent stops"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_netperf_measures_and_tells_the_appliance(site: BusSite, capfd: pytest.CaptureFixture[str]) -> None:
    assert gpuferry(["enrol", str(site.ticket("client")), "--name", "ada"]) == 0
    site.add_server("127.0.0.1", gpus=1)
    responder = path.PathResponder("127.0.0.1", 0)
    assert gpuferry(["netperf", "--port", str(responder.port)]) == 0
    responder.close()
    assert "Mbit/s" in capfd.readouterr().out
    with reading(site.engine) as session:
        row = session.scalars(select(Distance)).one()
        assert row.round_trip_us > 0
        assert row.bandwidth_mbps is not None
        assert row.bandwidth_mbps > 0

    def read() -> set[str]:
        with reading(site.engine) as session:
            return set(session.scalars(select(Reading.check)))

    eventually(lambda: {"net.round-trip", "net.bandwidth", "net.mtu", "daemon.version"} <= read())
    assert gpuferry(["netperf", "--port", str(free_port())]) == 1
    assert "not reached" in capfd.readouterr().out


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_health_of_a_client(site: BusSite, capfd: pytest.CaptureFixture[str]) -> None:
    assert gpuferry(["enrol", str(site.ticket("client")), "--name", "ada"]) == 0
    capfd.readouterr()
    gpuferry(["health", "--json"])
    rows = {row["check"]: row for row in json.loads(capfd.readouterr().out)}
    assert {"disk.free", "client.files", "rdma.link", "shim.version"} <= set(rows)
    assert all(row["threshold"] and row["meaning"] and row["remedy"] for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["enrol", "nonsense"], "not an enrolment ticket"),
        (["list"], "this machine is not enrolled"),
        (["release", "lease-x"], "this machine is not enrolled"),
    ],
)
def test_mistakes(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPUFERRY_IDENTITY", str(tmp_path / "identity.json"))
    assert gpuferry(arguments) == 1
    assert said in capsys.readouterr().err


def test_the_clients_part_runs_on_python_39_with_pyzmq_alone(tmp_path: Path) -> None:
    """With a Python 3.9 where there is one (and it has pyzmq), else this Python sees the same modules only."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import clientagent.pool_commands, clientagent.control, gpuserver.protocol.control.enrolment\n"
        "import clientagent.run, clientagent.keeper, clientagent.listing, clientagent.command\n"
        "from gpuserver.protocol.control.codec import KINDS, _decoders\n"
        "for kind in KINDS.values(): _decoders(kind)\n"
        "bad = {'sqlalchemy', 'fastapi', 'pydantic', 'appliance', 'structlog'} & set(sys.modules)\n"
        "assert not bad, bad\n"
        "print(len(KINDS))\n"
    )
    found = shutil.which("python3.9")
    interpreters = [sys.executable]
    if found and subprocess.run([found, "-c", "import zmq"], capture_output=True, check=False).returncode == 0:
        interpreters.append(found)
    for interpreter in interpreters:
        done = subprocess.run([interpreter, "-c", program, str(ROOT)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == len(KINDS)
    assert all(_decoders(kind) for kind in KINDS.values())


def test_every_subcommand_of_this_part_can_be_loaded() -> None:
    for name in ("enrol", "agent", "run", "request", "client", "release", "list", "smi", "stats", "health", "netperf"):
        module, _, function = SUBCOMMANDS[name].target.partition(":")
        assert callable(getattr(import_module(module), function))
