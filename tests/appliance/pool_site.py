"""A site with its data plane: `gpuferry appliance serve`, daemons on software GPUs, clients that run programs."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus_site import free_port
from service_site import GPUFERRY, ServiceSite

from appliance.peers import new_enrolment_token
from gpuserver.protocol.control.curve import Identity, Ticket, load_identity

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180


def eventually(condition: Callable[[], Any], seconds: float = 120.0, what: str = "it did not come to pass") -> Any:
    """What `condition` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def surroundings(**variables: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GPUFERRY_", "CUDA_VISIBLE", "LD_"))}
    kept = {k: v for k, v in os.environ.items() if k == "GPUFERRY_NATIVE"}
    return inherited | kept | {"PYTHONPATH": str(ROOT)} | variables


class PoolSite(ServiceSite):
    """The appliance with real GPU server daemons."""

    def gpu_server(self, name: str, gpus: int, memory_mib: int = 1024) -> subprocess.Popen[str]:
        """Enrol (once) and start a daemon on software GPUs of its own; its log goes to NAME.log."""
        identity = self.output / f"{name}.identity.json"
        if not identity.exists():
            self.enrol("server", name, identity)
            uuids = ",".join(f"GPU-{uuid.uuid4()}" for _ in range(gpus))
            (self.output / f"{name}.uuids").write_text(uuids)
        # A daemon that is started again listens where it listened before.
        where = self.output / f"{name}.port"
        if not where.exists():
            where.write_text(str(free_port()))
        kernel_log = self.output / f"{name}.kmsg"
        kernel_log.touch()
        with (self.output / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [
                    *(*GPUFERRY, "gpuserver", "serve", "--identity", str(identity), "--driver", "softgpu"),
                    *("--listen", f"127.0.0.1:{where.read_text()}", "--path-port", "0", "--folder", str(self.output)),
                    *("--kernel-log", str(kernel_log)),
                ],
                env=surroundings(
                    GPUFERRY_SOFTGPU_DEVICES=str(gpus),
                    GPUFERRY_SOFTGPU_MEMORY_MIB=str(memory_mib),
                    GPUFERRY_SOFTGPU_UUID=(self.output / f"{name}.uuids").read_text(),
                ),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.processes[name] = process
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], START_SECONDS)[0], "the daemon says nothing"
        line = process.stdout.readline()
        assert re.search(rf"{gpus} GPU\(s\), listening on .*, {name} of the pool", line), self.log(name)
        return process

    def log(self, name: str) -> str:
        return (self.output / f"{name}.log").read_text()

    def enrol(self, role: str, name: str, path: Path | None = None) -> Identity:
        """With the command of the machine's user, when the identity is to be kept."""
        if path is None:
            return super().enrol(role, name)
        token = new_enrolment_token(self.engine, role, name=name)
        ticket = str(Ticket(self.site.config.enrol_endpoint, self.site.curve_public, token))
        self.gpuferry("enrol", "--as", role, "--name", name, "--identity", str(path), ticket)
        return load_identity(path)

    def client_machine(self, name: str) -> ClientMachine:
        return ClientMachine(self, name)

    def get(self, path: str, **query: Any) -> list[dict[str, Any]]:
        with self.api as api:
            items: list[dict[str, Any]] = api.get(path, params={"limit": 500, **query}).json()["items"]
        return items

    def await_servers(self, count: int) -> None:
        eventually(lambda: sum(each["connected"] for each in self.get("/v1/servers")) == count)

    def reserved(self) -> list[int]:
        return [each["reserved_mib"] for each in self.get("/v1/gpus")]

    def await_free(self) -> None:
        eventually(lambda: not any(self.reserved()), what=f"still reserved: {self.reserved()}")


class ClientMachine:
    """An enrolled client VM."""

    def __init__(self, site: PoolSite, name: str) -> None:
        self.site = site
        self.folder = site.output / f"client-{name}"
        self.identity = self.folder / "identity.json"
        self.id = site.enrol("client", name, self.identity).id
        self.started: list[subprocess.Popen[str]] = []

    def environment(self, **variables: str) -> dict[str, str]:
        return surroundings(**{"GPUFERRY_IDENTITY": str(self.identity), **variables})

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """`gpuferry ARGUMENTS`, not waited for; its output is collected."""
        process = subprocess.Popen(
            [*GPUFERRY, *arguments],
            env=self.environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )
        self.started.append(process)
        return process

    def end_programs(self) -> None:
        """Kill what a failed test left, so that the next one finds a free pool."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
        self.started.clear()

    def gpuferry(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`gpuferry ARGUMENTS` to its end."""
        return subprocess.run(
            [*GPUFERRY, *arguments],
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd=self.folder,
        )

    def python(self, options: list[str], program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program under `gpuferry run OPTIONS`."""
        return self.gpuferry("run", *options, "--", sys.executable, "-c", program, *arguments)
