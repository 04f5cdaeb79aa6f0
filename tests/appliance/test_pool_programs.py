"""Programs on the pool's GPUs: real daemons on software GPUs, a real appliance, `gpuferry run` and its relatives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_site import ROOT, ClientMachine, PoolSite, eventually
from service_site import LOST_AFTER_S

DRIVER_API = str(ROOT / "tests" / "gpuserver" / "forwarding" / "driver_api.py")
LOOK = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
count = ctypes.c_int()
cuda.cuDeviceGetCount(ctypes.byref(count))
for i in range(count.value):
    size = ctypes.c_size_t()
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), i)
    uuid = (ctypes.c_ubyte * 16)()
    cuda.cuDeviceGetUuid(uuid, i)
    print(i, size.value >> 20, bytes(uuid).hex())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolSite]:
    folder = tmp_path_factory.mktemp("pool")
    site = PoolSite(folder / "site", f"sqlite:///{folder}/appliance.db")
    try:
        site.serve()
        site.await_up()
        site.gpu_server("s0", 2)
        site.await_servers(1)
        yield site
    finally:
        site.close()


@pytest.fixture(scope="module")
def machine(site: PoolSite) -> ClientMachine:
    return site.client_machine("ada")


@pytest.fixture
def ada(site: PoolSite, machine: ClientMachine) -> Iterator[ClientMachine]:
    """The client; every test leaves an empty pool to the next."""
    yield machine
    machine.end_programs()
    site.await_free()


def holder(client: ClientMachine, *options: str) -> subprocess.Popen[str]:
    process = client.start("run", *options, "--", sys.executable, DRIVER_API, "hold")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "holding\n", line + (process.communicate(timeout=60)[1] if not line else "")
    return process


def uuids(site: PoolSite) -> list[str]:
    return [each.removeprefix("GPU-").replace("-", "") for each in (site.output / "s0.uuids").read_text().split(",")]


def test_a_program_sees_its_slices_and_no_more(site: PoolSite, ada: ClientMachine) -> None:
    done = ada.python(["-n", "2", "-m", "256"], LOOK)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [(row[0], row[1]) for row in rows] == [("0", "256"), ("1", "256")]
    assert sorted(row[2] for row in rows) == sorted(uuids(site))
    whole = ada.python([], LOOK)
    assert [line.split()[1] for line in whole.stdout.splitlines()] == ["1024"], whole.stderr
    half = ada.python(["-p", "0.5"], LOOK)
    assert [line.split()[1] for line in half.stdout.splitlines()] == ["512"], half.stderr


def test_memory_beyond_the_slice_is_refused(ada: ClientMachine) -> None:
    program = (
        "import cupy; cupy.cuda.set_allocator(None)\n"
        "held = cupy.cuda.Memory(60 << 20)\n"
        "try:\n    cupy.cuda.Memory(8 << 20)\n"
        "except cupy.cuda.memory.OutOfMemoryError as full:\n    print('full')\n"
        "except cupy.cuda.runtime.CUDARuntimeError as full:\n    print(full.status)\n"
    )
    done = ada.python(["-m", "64"], program)
    assert done.stdout.strip() in ("full", "2"), done.stdout + done.stderr


@pytest.mark.parametrize(("program", "status"), [("raise SystemExit(7)", 7), ("print('well')", 0)])
def test_the_exit_status_is_the_programs(ada: ClientMachine, program: str, status: int) -> None:
    assert ada.python(["-m", "64"], program).returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP])
def test_a_signal_ends_the_program_and_its_lease(site: PoolSite, ada: ClientMachine, number: signal.Signals) -> None:
    process = holder(ada, "-m", "64")
    assert sum(site.reserved()) == 64
    process.send_signal(number)
    # Python turns SIGINT into an exception first, and then dies of it as programs do.
    assert process.wait(60) == -number
    site.await_free()
    process.communicate(timeout=60)


def test_a_stopped_program_keeps_its_lease(site: PoolSite, ada: ClientMachine) -> None:
    """Ctrl-Z stops the program, not what keeps its lease: it is still there long after silence would have ended it."""
    process = holder(ada, "-m", "64")
    process.send_signal(signal.SIGSTOP)
    (lease,) = site.get("/v1/leases", state="active")
    silent_since = time.monotonic()
    while time.monotonic() - silent_since < LOST_AFTER_S + 1:
        assert ada.gpuferry("run", "-m", "64", "--", "true").returncode == 0
    eventually(lambda: [each["id"] for each in site.get("/v1/leases", state="active")] == [lease["id"]])
    process.send_signal(signal.SIGCONT)
    assert process.communicate("\n\n", timeout=60)[0] == "still 0\n"


def test_every_process_of_a_program_has_a_worker_of_its_own(site: PoolSite, ada: ClientMachine) -> None:
    program = (
        "import subprocess, sys\n"
        f"parts = [subprocess.Popen([sys.executable, {DRIVER_API!r}, 'hold'], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE, text=True) for _ in range(3)]\n"
        "assert [part.stdout.readline() for part in parts] == ['holding\\n'] * 3\n"
        "print('all', flush=True); sys.stdin.readline()\n"
        "print([part.communicate('\\n\\n')[0] for part in parts])\n"
    )
    process = ada.start("run", "-m", "256", "--", sys.executable, "-c", program)
    assert process.stdout is not None
    assert process.stdout.readline() == "all\n"
    began = [line for line in site.log("s0").splitlines() if "session began" in line][-3:]
    assert len({line.partition("worker=")[2] for line in began}) == 3
    use = eventually(lambda: [row for row in ask_stats(ada) if row["sessions"] == "3"])
    assert len(use) == 1
    assert process.communicate("\n", timeout=60)[0] == str(["still 0\n"] * 3) + "\n"


def ask_stats(client: ClientMachine) -> list[dict[str, str]]:
    done = client.gpuferry("stats", "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, str]] = json.loads(done.stdout)
    return rows


def test_who_must_wait_is_told_its_place(site: PoolSite, ada: ClientMachine) -> None:
    first = holder(ada, "-n", "2")
    second = ada.start("run", "-n", "1", "-m", "64", "--", "echo", "done")
    assert second.stderr is not None
    assert "waiting, number 1 in the queue: all places for 1 GPU with 64 MiB" in second.stderr.readline()
    late = ada.gpuferry("run", "-m", "64", "--timeout", "1s", "--", "echo", "never")
    assert (late.returncode, late.stdout) == (1, "")
    assert "timed out after 1 s in the queue" in late.stderr
    first.communicate("\n\n", timeout=60)
    assert second.communicate(timeout=60)[0] == "done\n"


def test_who_stops_waiting_leaves_the_queue(site: PoolSite, ada: ClientMachine) -> None:
    first = holder(ada, "-n", "2")
    second = ada.start("run", "-m", "64", "--", "echo", "never")
    eventually(lambda: len(site.get("/v1/leases", state="queued")) == 1)
    second.send_signal(signal.SIGINT)
    out, _ = second.communicate(timeout=60)
    assert (second.returncode, out) == (130, "")
    eventually(lambda: not site.get("/v1/leases", state="queued"))
    first.communicate("\n\n", timeout=60)


def test_the_operator_ends_a_lease(site: PoolSite, ada: ClientMachine) -> None:
    process = holder(ada, "-m", "64")
    (lease,) = site.get("/v1/leases", state="active")
    with site.api as api:
        assert api.delete(f"/v1/leases/{lease['id']}", headers={"If-Match": "*"}).status_code == 202
    site.await_free()
    out, err = process.communicate("\n\n", timeout=60)
    assert out == "still 46\n", "CUDA_ERROR_DEVICE_UNAVAILABLE"
    assert "ended: released by first admin" in err


def test_who_holds_gpus_idle_is_warned_and_then_loses_them(site: PoolSite, ada: ClientMachine) -> None:
    """What counts as use is what the daemon sees of CUDA calls, not that the program lives."""
    process = holder(ada, "-m", "64")
    with site.api as api:
        for wanted in ({"idle_after_s": 3, "idle_notice_s": 1}, {"idle_after_s": 0}):
            changed = api.patch("/v1/settings", json=wanted, headers={"If-Match": "*"})
            assert changed.status_code == 200, changed.text
            if wanted["idle_after_s"]:
                site.await_free()
    out, err = process.communicate("\n\n", timeout=60)
    assert out == "still 46\n"
    assert "reclaimed in 1 s unless a program uses it" in err
    assert "ended: reclaimed: no program used its GPUs for" in err


def test_request_client_release(site: PoolSite, ada: ClientMachine) -> None:
    agent = ada.start("agent")
    try:
        asked = eventually(lambda: (done := ada.gpuferry("request", "-m", "128")).returncode == 0 and done)
        assert asked.stdout.startswith("GPU 0: 128 MiB of GPU-")
        for _ in range(2):
            done = ada.gpuferry("client", "--", sys.executable, "-c", LOOK)
            assert done.stdout.startswith("0 128 "), done.stderr
        smi = ada.gpuferry("smi")
        assert "Software GPU" in smi.stdout, smi.stderr
        assert "GPU 0: 128 MiB of" in smi.stdout
        assert ada.gpuferry("release").returncode == 0
        site.await_free()
        over = ada.gpuferry("client", "--", "true")
        assert (over.returncode, "no lease is held" in over.stderr) == (1, True)
    finally:
        agent.terminate()
        agent.communicate(timeout=60)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-n", "3"], "the nearest that would: 2 whole GPUs"),
        (["-m", "2048"], "the nearest that would: 1 GPU with 1024 MiB"),
        (["--filter", "device.colour=red"], "no filter key"),
        (["-m", "0"], "0 MiB of each GPU"),
        (["-p", "1.5"], "a fraction of 1.5"),
        (["--filter", "server.has-rdma=true", "-m", "64"], "rdma"),
    ],
)
def test_what_can_never_be_granted(ada: ClientMachine, options: list[str], said: str) -> None:
    done = ada.gpuferry("run", *options, "--", "echo", "never")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


def test_mistakes_cost_no_lease(site: PoolSite, ada: ClientMachine, tmp_path: Path) -> None:
    before = len(site.get("/v1/leases"))
    assert ada.gpuferry("run", "-m", "64", "--", "no-such-program").returncode == 127
    assert ada.gpuferry("run", "-m", "64", "--", str(tmp_path)).returncode == 126
    stranger = ada.gpuferry("run", "--", "true", GPUFERRY_IDENTITY=str(tmp_path / "none.json"))
    assert stranger.returncode == 1
    assert "this machine is not enrolled" in stranger.stderr
    assert ada.gpuferry("run", "-m", "64", "-p", "0.5", "--", "true").returncode == 2
    assert len(site.get("/v1/leases")) == before


def test_a_foreign_secret_opens_no_session(site: PoolSite, ada: ClientMachine, tmp_path: Path) -> None:
    """A program with another secret than its lease's is turned away by the daemon."""
    wrong = tmp_path / "secret"
    wrong.write_text("ab" * 32 + "\n")
    program = f"import os; os.environ['GPUFERRY_SECRET_FILE'] = {str(wrong)!r}\n{LOOK}"
    done = ada.python(["-m", "64"], program)
    assert done.returncode == 1
    assert "wrong secret" in done.stderr or "does not know the secret" in done.stderr


def test_an_xid_of_the_kernel_log_reaches_the_people(site: PoolSite, ada: ClientMachine) -> None:
    """The daemon reads it, the appliance judges it, `gpuferry health` says what to do."""
    program = (
        "import os\n"
        "from pathlib import Path\n"
        "from clientagent.program import ask_inventory\n"
        "secret = bytes.fromhex(Path(os.environ['GPUFERRY_SECRET_FILE']).read_text().strip())\n"
        "lease = bytes.fromhex(os.environ['GPUFERRY_LEASE'])\n"
        "gpu = ask_inventory(os.environ['GPUFERRY_SERVER'], secret, lease)['gpus']\n"
        "print(gpu[0]['pci_bus_id'], gpu[0]['uuid'], len(gpu))\n"
    )
    pci, uuid, count = ada.python(["-m", "64"], program).stdout.split()
    assert count == "1", "an inventory shows the GPUs of the lease alone"
    domain, bus, device = (int(part, 16) for part in pci.partition(".")[0].split(":"))
    with (site.output / "s0.kmsg").open("a") as log:
        log.write(f"4,1,1,-;NVRM: Xid (PCI:{domain:04x}:{bus:02x}:{device:02x}): 79, GPU has fallen off the bus.\n")

    def failed() -> list[dict[str, str]]:
        rows = site.get("/v1/health", state="failed")
        return [row for row in rows if row["check"] == "gpu.xid" and row["subject"].endswith(uuid)]

    (reading,) = eventually(failed)
    assert reading["value"] == "79"
    told = ada.gpuferry("health")
    assert told.returncode == 1
    assert "drain the server for hardware errors" in told.stdout
    others = [row for row in site.get("/v1/health") if row["check"] == "gpu.xid" and not row["subject"].endswith(uuid)]
    assert {row["state"] for row in others} <= {"ok"}


def test_the_shims_version_is_checked(ada: ClientMachine, tmp_path: Path) -> None:
    def version(**variables: str) -> dict[str, str]:
        rows = json.loads(ada.gpuferry("health", "--json", **variables).stdout)
        found: dict[str, str] = next(row for row in rows if row["check"] == "shim.version")
        return found

    assert version()["state"] == "ok"
    strange = tmp_path / "clientagent" / "shim" / "lib"
    strange.mkdir(parents=True)
    (strange / "libcuda.so.1").write_bytes(b"ELF gpuferry-shim-version=0.0.1; ...")
    found = version(GPUFERRY_NATIVE=str(tmp_path))
    assert (found["state"], found["value"].partition("/")[0]) == ("failed", "0.0.1")


def test_keepers_leave_nothing_behind(site: PoolSite, ada: ClientMachine, tmp_path: Path) -> None:
    done = ada.gpuferry(
        "run", "-m", "64", "--", "sh", "-c", "echo $GPUFERRY_SECRET_FILE", XDG_RUNTIME_DIR=str(tmp_path)
    )
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    eventually(lambda: os.listdir(tmp_path) == [])
