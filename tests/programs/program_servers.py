"""GPU servers for the programs of the corpus, started when first needed: one for each set of software GPU options, or
one of this machine's own GPUs."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_server import GpuServer, gpu_server

from clientagent.run import ask_inventory, read_secret
from gpuserver.softgpu.command import OPTIONS

IDLE_SECONDS = 60


@dataclass(frozen=True)
class ProgramServer:
    """Servers whose whole GPUs each program gets, one program after the other."""

    servers: list[GpuServer]
    uuids: str
    devices: int
    memory_mib: int = 0  # the slice; 0 for whole GPUs

    def prefix(self) -> list[str]:
        """The command before a program's own, once the session of the program before has ended."""
        deadline = time.monotonic() + IDLE_SECONDS
        named: list[str] = []
        for server in self.servers:
            secret = read_secret(server.secret_file)
            while ask_inventory(server.address, secret)["sessions"]:
                assert time.monotonic() < deadline, f"a session does not end\n{server.log.read_text()}"
                time.sleep(0.02)
            named += ["--server", server.address, "--secret-file", str(server.secret_file)]
        slices = ["-m", str(self.memory_mib)] if self.memory_mib else []
        return [*(sys.executable, "-m", "clientagent.command", "run", "-n", str(self.devices)), *slices, *named, "--"]


class ProgramServers:
    def __init__(self, stack: ExitStack, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        """`variables`: what the servers find in their environment beside the options."""
        self.stack, self.folder, self.variables = stack, folder, dict(variables or {})
        self.running: dict[tuple[tuple[str, str], ...], ProgramServer] = {}

    def with_options(self, options: Mapping[str, object]) -> ProgramServer:
        """The servers for these options. With the option `servers`, the GPUs are spread over as many."""
        key = tuple(sorted((name, str(value)) for name, value in options.items()))
        if key not in self.running:
            devices = int(str(options.get("devices", 1)))
            uuids = [f"GPU-{uuid.uuid4()}" for _ in range(devices)]
            spread = int(str(options.get("servers", 1)))
            variables = self.variables | {
                f"GPUFERRY_SOFTGPU_{OPTIONS[name]}": value for name, value in key if name in OPTIONS
            }
            servers = []
            for number in range(spread):
                folder = self.folder / f"{len(self.running)}-{number}"
                folder.mkdir()
                own = uuids[number * devices // spread : (number + 1) * devices // spread]
                variables |= {"GPUFERRY_SOFTGPU_DEVICES": str(len(own)), "GPUFERRY_SOFTGPU_UUID": ",".join(own)}
                servers.append(self.stack.enter_context(gpu_server(folder, "softgpu", **variables)))
            self.running[key] = ProgramServer(servers, ",".join(uuids), devices)
        return self.running[key]


class HardwareServers(ProgramServers):
    """One server, whose driver is NVIDIA's."""

    def with_options(self, options: Mapping[str, object]) -> ProgramServer:
        """The server, for a program with so many GPUs and so large a slice; the other options are a software GPU's."""
        if () not in self.running:
            server = self.stack.enter_context(gpu_server(self.folder, "libcuda.so.1"))
            self.running[()] = ProgramServer([server], "", 1)
        devices, memory = (int(str(options.get(name, default))) for name, default in (("devices", 1), ("memory", 0)))
        return replace(self.running[()], devices=devices, memory_mib=memory)
