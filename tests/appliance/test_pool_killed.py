"""Parts of a pool killed with SIGKILL while real programs compute on real daemons' GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_site import ClientMachine, PoolSite, eventually
from service_site import LOST_AFTER_S
from sqlalchemy import func, select

from appliance.state.database import reading
from appliance.state.models import Gpu, Lease, LeaseState, Slice, SliceState

STEADY = str(Path(__file__).resolve().parent / "steady_program.py")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PoolSite]:
    site = PoolSite(tmp_path / "site", f"sqlite:///{tmp_path}/appliance.db")
    try:
        site.serve()
        site.await_up()
        for name in ("s0", "s1"):
            site.gpu_server(name, 2)
        site.await_servers(2)
        yield site
    finally:
        site.close()


def steady(client: ClientMachine, *options: str) -> subprocess.Popen[str]:
    """A program that computes and checks until `finish`."""
    process = client.start("run", *options, "--", sys.executable, STEADY)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "working\n", line + (process.communicate(timeout=60)[1] if not line else "")
    return process


def finish(process: subprocess.Popen[str]) -> int:
    """How many rounds the program has computed, all of them right."""
    out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    return int(out.removeprefix("right "))


def keeper_of(process: subprocess.Popen[str]) -> int:
    """The keeper: what still is `gpuferry run`, in a session of its own, with the program's lease file."""
    secret = Path(f"/proc/{process.pid}/environ").read_bytes().partition(b"GPUFERRY_SECRET_FILE=")[2].split(b"\0")[0]
    folder = Path(secret.decode().split(",")[0]).parent
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if b"clientagent.command" in command and b"run" in command and os.getsid(int(entry.name)) != os.getsid(0):
                started = {child.name for child in folder.parent.iterdir()}
                if folder.name in started and _keeps(entry, process.pid):
                    return int(entry.name)
        except OSError:
            continue
    raise AssertionError("the program has no keeper")


def _keeps(entry: Path, program: int) -> bool:
    """Whether this process holds a pidfd of the program (proc(5): fdinfo of a pidfd)."""
    return any(f"Pid:\t{program}\n" in info.read_text() for info in (entry / "fdinfo").iterdir())


def live_leases(site: PoolSite) -> list[str]:
    with reading(site.engine) as session:
        return list(session.scalars(select(Lease.id).where(Lease.state != LeaseState.ENDED).order_by(Lease.id)))


def reason_of(site: PoolSite, lease: str) -> str:
    with reading(site.engine) as session:
        return str(session.get_one(Lease, lease).reason)


def books_are_right(site: PoolSite) -> bool:
    with reading(site.engine) as session:
        query = select(Slice.gpu_id, func.sum(Slice.memory_mib)).where(Slice.state != SliceState.FREED)
        live = dict(session.execute(query.group_by(Slice.gpu_id)).all())
        rows = session.scalars(select(Gpu)).all()
        return all(gpu.reserved_mib == live.get(gpu.id, 0) <= gpu.memory_mib for gpu in rows)


def test_the_appliance_is_killed_while_programs_compute(site: PoolSite) -> None:
    """Three times, with programs that run, come and go, and one that waits: nothing is lost, doubled or noticed."""
    client = site.client_machine("ada")
    running = [steady(client, "-n", "2"), *(steady(client, "-m", "300") for _ in range(4))]
    kept = live_leases(site)
    waiting = client.start("run", "-n", "2", "--", "echo", "granted")
    (queued,) = eventually(lambda: site.get("/v1/leases", state="queued"))
    stop = threading.Event()
    came_and_went: list[str] = []

    def come_and_go() -> None:
        while not stop.is_set():
            done = client.gpuferry("run", "-m", "100", "--timeout", "5m", "--", sys.executable, STEADY)
            came_and_went.append(done.stderr if done.returncode else "well")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    for _ in range(3):
        before = len(came_and_went)
        eventually(lambda before=before: len(came_and_went) > before)
        site.kill("appliance")
        assert books_are_right(site)
        assert all(process.poll() is None for process in running)
        site.serve()
    stop.set()
    thread.join(120)
    site.await_up()
    eventually(lambda: live_leases(site) == sorted([*kept, queued["id"]]), what=f"{live_leases(site)}, kept {kept}")
    assert set(came_and_went) == {"well"}
    assert books_are_right(site)
    both = site.log("s0") + site.log("s1")
    assert {lease: both.count(f"lease={lease} ") for lease in kept} == dict.fromkeys(kept, 1), "prepared once each"
    assert all(finish(process) > 1 for process in running)
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (0, "granted\n"), err
    eventually(lambda: {reason_of(site, lease) for lease in kept} == {"its program ended"})
    with reading(site.engine) as session:
        asked = session.execute(select(Lease.client_id, Lease.request)).all()
    assert len(asked) == len(set(asked)) == len(came_and_went) + len(kept) + 1
    site.await_free()


def test_a_killed_keeper_frees_its_slices(site: PoolSite) -> None:
    """Nobody keeps the lease any more: it ends after the silence that the site allows, and the program's calls fail."""
    process = steady(site.client_machine("ada"), "-m", "300")
    (lease,) = live_leases(site)
    os.kill(keeper_of(process), signal.SIGKILL)
    site.await_free()
    assert reason_of(site, lease) == f"its client was silent for {LOST_AFTER_S} s"
    assert process.wait(60) == 1
    assert "= 46" in process.communicate()[1], "CUDA_ERROR_DEVICE_UNAVAILABLE"


def test_a_killed_machine_frees_its_slices(site: PoolSite) -> None:
    """Program and keeper die at once, as with a machine that loses power: worker and lease end."""
    process = steady(site.client_machine("ada"), "-m", "300")
    keeper = keeper_of(process)
    os.kill(keeper, signal.SIGKILL)
    process.kill()
    eventually(lambda: "session ended" in site.log("s0") + site.log("s1"))
    site.await_free()
    process.communicate(timeout=60)


def test_a_killed_daemon_comes_back(site: PoolSite) -> None:
    """Its programs fail, the others go on; afterwards the pool is whole again and free of what was held."""
    client = site.client_machine("ada")
    running = [steady(client, "-n", "2", "-m", "300") for _ in range(2)]
    others = [steady(client, "-n", "2", "-m", "1000")]
    hit = [name for name in ("s0", "s1") if site.log(name).count("session began") == 2]
    assert len(hit) == 1, "small slices share a server, and the large ones take the other"
    site.kill(hit[0])
    for process in running:
        assert process.wait(60) == 1
        assert "is lost" in process.communicate()[1]
    site.gpu_server(hit[0], 2)
    site.await_servers(2)
    assert finish(others[0]) > 1
    site.await_free()
    assert finish(steady(client, "-n", "2")) >= 1


def servers_of(process: subprocess.Popen[str]) -> list[str]:
    """The addresses of the servers whose GPUs a program has."""
    variables = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    (given,) = (each for each in variables if each.startswith(b"GPUFERRY_SERVER="))
    return given.decode().partition("=")[2].split(",")


def test_a_program_has_one_server_where_it_can_and_several_where_it_must(site: PoolSite) -> None:
    client = site.client_machine("ada")
    both = steady(client, "-n", "2")
    assert len(servers_of(both)) == 1
    assert finish(both) >= 1
    site.await_free()
    # Whole GPUs come from the server with the fewest left: two of one server, then one of the other.
    running = [steady(client, "-n", "1") for _ in range(3)]
    assert finish(running.pop(0)) >= 1
    eventually(lambda: len(live_leases(site)) == 2)
    never = client.gpuferry("run", "-n", "5", "--", "true")
    assert (never.returncode, "the nearest that would: 4 whole GPUs" in never.stderr) == (1, True)
    spread = steady(client, "-n", "2")  # one GPU is free on each
    assert len(set(servers_of(spread))) == 2
    waiting = client.start("run", "-n", "2", "--", sys.executable, STEADY)
    eventually(lambda: site.get("/v1/leases", state="queued"))
    keeper = keeper_of(spread)
    os.kill(keeper, signal.SIGKILL)  # both servers end their sessions, and both GPUs are free again
    assert spread.wait(60) == 1
    assert "= 46" in spread.communicate()[1], "CUDA_ERROR_DEVICE_UNAVAILABLE"
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "working\n"
    assert len(set(servers_of(waiting))) == 2
    assert finish(waiting) >= 1
    assert all(finish(process) >= 1 for process in running)
    site.await_free()


def test_the_daemon_stops_in_order(site: PoolSite) -> None:
    """SIGTERM: its workers end, its leases too; the appliance places nothing on it meanwhile."""
    client = site.client_machine("ada")
    process = steady(client, "-m", "300")
    (name,) = [name for name in ("s0", "s1") if "session began" in site.log(name)]
    site.processes[name].terminate()
    assert site.processes[name].wait(60) == 0
    assert process.wait(60) == 1
    other = steady(client, "-m", "300")
    assert finish(other) >= 1
    process.communicate(timeout=60)
    site.await_free()
