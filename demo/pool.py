"""Demo steps on the pool: an appliance, two GPU servers with four software GPUs each, and clients that share them."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

from demo.services import START_SECONDS, start_service, stop
from demo.software_gpu import PROGRAMS
from demo.steps import GPUFERRY, ROOT, Demo, StepFailedError, expect

SERVERS, GPUS, MEMORY_MIB = 2, 4, 1024
CLIENTS = ("ada", "grace", "katherine", "dorothy")


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def site(demo: Demo) -> Path:
    return demo.work / "site"


def start_appliance(demo: Demo) -> str:
    """Make a site and serve it; the REST API says when it decides."""
    control, enrol, api = free_ports(3)
    made = demo.gpuferry(
        *("appliance", "init", "--data", str(site(demo)), "--name", "127.0.0.1", "--listen", "127.0.0.1"),
        *("--control-port", str(control), "--enrol-port", str(enrol), "--api-port", str(api)),
    )
    demo.api = f"https://127.0.0.1:{api}"
    demo.token = made.splitlines()[-1]
    demo.console.print(f"    $ gpuferry appliance serve --data {site(demo)} &", style="dim", markup=False)
    with (demo.work / "appliance.log").open("w") as log:
        command = [*GPUFERRY, "appliance", "serve", "--data", str(site(demo))]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    demo.undo.append(lambda: stop(process))
    deadline = time.monotonic() + START_SECONDS
    while not ask(demo, "/v1/appliance").get("deciding"):
        if time.monotonic() > deadline or process.poll() is not None:
            raise StepFailedError(f"the appliance does not come up:\n{(demo.work / 'appliance.log').read_text()}")
        time.sleep(0.1)
    return f"REST API at {demo.api}, certificate authority and database in {site(demo).name}/"


def ask(demo: Demo, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    """What the API answers; an empty object while it does not."""
    request = urllib.request.Request(  # noqa: S310
        f"{demo.api}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {demo.token}", "Content-Type": "application/json"},
    )
    trust = ssl.create_default_context(cafile=str(site(demo) / "ca.pem"))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=30) as answer:  # noqa: S310
            found: dict[str, object] = json.load(answer)
            return found
    except OSError:
        return {}


def items(demo: Demo, path: str) -> list[dict[str, object]]:
    found = ask(demo, path).get("items", [])
    return found if isinstance(found, list) else []


def ticket(demo: Demo, role: str) -> str:
    """A ticket for one machine, through the API (`gpuferry appliance token --enrol` makes the same)."""
    made = ask(demo, "/v1/enrolments", {"role": role})
    expect("ticket" in made, f"the appliance made no ticket for a {role}")
    return str(made["ticket"])


def start_servers(demo: Demo) -> str:
    """Two daemons enrol, each with GPUs of its own, and report what they have."""
    for number in range(1, SERVERS + 1):
        name = f"gpu-server-{number}"
        identity = str(demo.work / name / "identity.json")
        demo.gpuferry("enrol", "--as", "server", "--name", name, "--identity", identity, ticket(demo, "server"))
        uuids = ",".join(f"GPU-{uuid.uuid4()}" for _ in range(GPUS))
        line = start_service(
            demo,
            *("gpuserver", "serve", "--identity", identity, "--listen", "127.0.0.1:0", "--driver", "softgpu"),
            *("--path-port", "0", "--folder", str(demo.work)),
            GPUFERRY_SOFTGPU_DEVICES=str(GPUS),
            GPUFERRY_SOFTGPU_MEMORY_MIB=str(MEMORY_MIB),
            GPUFERRY_SOFTGPU_UUID=uuids,
        )
        expect(f"{GPUS} GPU(s)" in line, f"the daemon did not find its GPUs: {line}")
    deadline = time.monotonic() + START_SECONDS
    while len(items(demo, "/v1/gpus")) < SERVERS * GPUS:
        expect(time.monotonic() < deadline, "the daemons did not report to the appliance")
        time.sleep(0.1)
    return f"{SERVERS} servers, {SERVERS * GPUS} GPUs of {MEMORY_MIB} MiB in one pool"


def enrol_clients(demo: Demo) -> str:
    for name in CLIENTS:
        identity = str(demo.work / name / "identity.json")
        demo.gpuferry("enrol", "--name", name, "--identity", identity, ticket(demo, "client"))
    os.environ["GPUFERRY_IDENTITY"] = str(demo.work / CLIENTS[0] / "identity.json")
    demo.gpuferry("list", show=True)
    return f"{len(CLIENTS)} client VMs enrolled, each with a key of its own"


def run_program(demo: Demo) -> str:
    output = demo.gpuferry("run", "-n", "2", "-m", "512", "--", str(demo.work / "vector_add"))
    expect(output.count("1048576 of 1048576 sums right") == 2, f"wrong sums:\n{output}")
    expect("512 MiB" in output, f"the program should see its slice of 512 MiB:\n{output}")
    return f"2 slices of 512 MiB: {output.splitlines()[0]}"


def run_cupy(demo: Demo) -> str:
    script = str(PROGRAMS / "compare_with_numpy.py")
    output = demo.gpuferry("run", "-p", "0.5", "--", sys.executable, script)
    expect("arange sum 499999500000" in output, f"unexpected output:\n{output}")
    return output.strip()


def share(demo: Demo) -> str:
    """Every client has half the memory of half the GPUs, all at once: every GPU is shared by two of them."""
    script = str(PROGRAMS / "share_gpus.py")
    wanted = ("-n", str(GPUS), "-m", str(MEMORY_MIB // 2))
    started = []
    for number, name in enumerate(CLIENTS):
        command = [*GPUFERRY, "run", *wanted, "--", sys.executable, script, str(number)]
        demo.console.print(f"    {name} $ gpuferry run {' '.join(wanted)} -- {script} {number} &", style="dim")
        environment = {**os.environ, "GPUFERRY_IDENTITY": str(demo.work / name / "identity.json")}
        with (demo.work / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        started.append(process)
    demo.undo.extend(process.kill for process in started)
    for process, name in zip(started, CLIENTS, strict=True):
        line = process.stdout.readline() if process.stdout else ""
        expect(line == f"ready with {GPUS} GPUs\n", f"{name}: {line}{(demo.work / f'{name}.log').read_text()}")
    reserved = [gpu["reserved_mib"] for gpu in items(demo, "/v1/gpus")]
    demo.gpuferry("smi", show=True)
    expect(reserved == [MEMORY_MIB] * SERVERS * GPUS, f"every GPU should be shared to its last MiB: {reserved}")
    results = 0
    for process, name in zip(started, CLIENTS, strict=True):
        out, _ = process.communicate("\n", timeout=START_SECONDS)
        expect(process.returncode == 0, f"{name} failed:\n{(demo.work / f'{name}.log').read_text()}")
        expect(len(re.findall(rf"of {MEMORY_MIB // 2} MiB: \d+ results equal", out)) == GPUS, f"{name}:\n{out}")
        results += sum(map(int, re.findall(r"(\d+) results equal", out)))
    deadline = time.monotonic() + START_SECONDS
    while any(gpu["reserved_mib"] for gpu in items(demo, "/v1/gpus")):
        expect(time.monotonic() < deadline, "the GPUs did not come free")
        time.sleep(0.1)
    return (
        f"{len(CLIENTS)} clients at once, {len(CLIENTS) * GPUS} slices on {SERVERS * GPUS} GPUs, "
        f"{results} results equal NumPy's; all memory free afterwards"
    )
