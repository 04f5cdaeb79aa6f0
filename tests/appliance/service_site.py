"""A whole site of processes: `gpuferry appliance serve`, daemons, and an HTTPS client for its API."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from bus_site import free_port
from sqlalchemy import Engine

from appliance.peers import new_enrolment_token
from appliance.site import Site
from appliance.state.database import open_database, writing
from appliance.state.models import Setting
from gpuserver.protocol.control.curve import Identity, Ticket
from gpuserver.protocol.control.enrolment import enrol

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
LOST_AFTER_S = 6
"""Silence that ends leases; a busy machine keeps a process waiting for seconds."""
GPUFERRY = [sys.executable, "-m", "clientagent.command"]


class ServiceSite:
    """Made with `gpuferry appliance init`; quick heartbeats, so that tests need not wait."""

    def __init__(self, folder: Path, database: str, name: str = "127.0.0.1") -> None:
        self.folder = folder
        self.output = folder.parent
        self.database = database
        ports = {name: free_port() for name in ("control", "enrol", "api")}
        made = self.gpuferry(
            "appliance", "init", "--data", str(folder), "--name", name, "--database", database,
            "--listen", name, *(part for name, port in ports.items() for part in (f"--{name}-port", str(port))),
        )  # fmt: skip
        self.admin_token = made.stdout.strip().splitlines()[-1]
        self.site = Site(folder)
        self.engine: Engine = open_database(database)
        with writing(self.engine) as session:
            for key, value in {"heartbeat_s": 0.2, "lost_after_s": LOST_AFTER_S, "prepare_timeout_s": 5.0}.items():
                session.add(Setting(key=key, value={"value": value}))
        self.processes: dict[str, subprocess.Popen[str]] = {}

    @classmethod
    def beside(cls, first: ServiceSite, folder: Path) -> ServiceSite:
        """A second appliance process: a copy of the site's folder, with ports of its own, on the same database."""
        site = cls.__new__(cls)
        shutil.copytree(first.folder, folder)
        config = json.loads((folder / "site.json").read_text())
        config.update({f"{name}_port": free_port() for name in ("control", "enrol", "api")})
        (folder / "site.json").write_text(json.dumps(config))
        site.folder, site.output, site.database = folder, folder.parent, first.database
        site.admin_token, site.engine, site.processes = first.admin_token, first.engine, {}
        site.site = Site(folder)
        return site

    def answers(self) -> bool:
        try:
            with self.api as api:
                return api.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def gpuferry(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*GPUFERRY, *arguments],
            check=False,
            env=ENVIRONMENT,
            cwd=self.output,
            capture_output=True,
            text=True,
            timeout=180,
        )
        if check:
            assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done

    def serve(self, name: str = "appliance") -> subprocess.Popen[str]:
        with (self.output / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [*GPUFERRY, "appliance", "serve", "--data", str(self.folder)],
                stdout=log,
                stderr=log,
                text=True,
                env=ENVIRONMENT,
            )
        self.processes[name] = process
        return process

    def await_up(self, seconds: float = 180.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.api.get("/v1/appliance").json().get("deciding"):
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, (self.output / "appliance.log").read_text()[-3000:]
            time.sleep(0.1)

    @property
    def api(self) -> httpx.Client:
        return self.client(self.admin_token)

    def client(self, token: str | None, **more: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        return httpx.Client(base_url=self.site.config.api_url, headers=headers, verify=context, timeout=30, **more)

    def enrol(self, role: str, name: str) -> Identity:
        token = new_enrolment_token(self.engine, role, name=name)
        return enrol(Ticket(self.site.config.enrol_endpoint, self.site.curve_public, token), role, name)

    def daemon(self, name: str, gpus: int, memory_mib: int = 16384) -> subprocess.Popen[str]:
        """Enrol and start a daemon process; its output goes to NAME.log."""
        identity, inventory = self.output / f"{name}.identity.json", self.output / f"{name}.inventory.json"
        if not identity.exists():
            self.enrol("server", name).save(identity)
        inventory.write_text(json.dumps({f"GPU-{name}-{i}": memory_mib for i in range(gpus)}))
        with (self.output / f"{name}.log").open("a") as log:
            command = [sys.executable, str(HERE / "daemon_process.py"), str(identity), str(inventory)]
            process = subprocess.Popen(command, stdout=log, stderr=log, text=True, env=ENVIRONMENT)
        self.processes[name] = process
        return process

    def kill(self, name: str) -> None:
        """SIGKILL: no chance to say or write anything."""
        self.processes[name].kill()
        self.processes[name].wait()

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.engine.dispose()
