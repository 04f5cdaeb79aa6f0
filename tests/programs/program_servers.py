"""GPU servers for the programs of the corpus: one for each set of software GPU options, started when first needed."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gpu_server import GpuServer, gpu_server

from clientagent.run import ask_inventory, read_secret
from gpuserver.softgpu.command import OPTIONS

IDLE_SECONDS = 60


@dataclass(frozen=True)
class ProgramServer:
    """A server whose whole GPUs each program gets, one program after the other."""

    server: GpuServer
    uuids: str
    devices: int

    def prefix(self) -> list[str]:
        """The command before a program's own, once the session of the program before has ended."""
        deadline = time.monotonic() + IDLE_SECONDS
        secret = read_secret(self.server.secret_file)
        while ask_inventory(self.server.address, secret)["sessions"]:
            assert time.monotonic() < deadline, f"a session does not end\n{self.server.log.read_text()}"
            time.sleep(0.02)
        return [
            *(sys.executable, "-m", "clientagent.command", "run", "-n", str(self.devices)),
            *("--server", self.server.address, "--secret-file", str(self.server.secret_file), "--"),
        ]


class ProgramServers:
    def __init__(self, stack: ExitStack, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        """`variables`: what the servers find in their environment beside the options."""
        self.stack, self.folder, self.variables = stack, folder, dict(variables or {})
        self.running: dict[tuple[tuple[str, str], ...], ProgramServer] = {}

    def with_options(self, options: Mapping[str, object]) -> ProgramServer:
        key = tuple(sorted((name, str(value)) for name, value in options.items()))
        if key not in self.running:
            folder = self.folder / str(len(self.running))
            folder.mkdir()
            devices = int(str(options.get("devices", 1)))
            uuids = ",".join(f"GPU-{uuid.uuid4()}" for _ in range(devices))
            variables = self.variables | {f"GPUFERRY_SOFTGPU_{OPTIONS[name]}": value for name, value in key}
            server = self.stack.enter_context(gpu_server(folder, "softgpu", **variables, GPUFERRY_SOFTGPU_UUID=uuids))
            self.running[key] = ProgramServer(server, uuids, devices)
        return self.running[key]
