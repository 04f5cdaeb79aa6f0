"""A small site for the console: a real appliance process, daemons and clients over the real bus, leases and a queue."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from service_site import ENVIRONMENT, ServiceSite
from textual.pilot import Pilot

from tui.app import ConsoleApp
from tui.pane import Pane
from tui.profile import Profile

HERE = Path(__file__).parent
PATIENCE_S = 120.0


class ConsoleSite(ServiceSite):
    """ServiceSite with daemons that say what a test tells them, and profiles for the console."""

    def tell(self, name: str, **what: Any) -> None:
        """Change what a daemon says; in one step, for it reads at any moment."""
        path = self.output / f"{name}.told.json"
        told = json.loads(path.read_text()) if path.exists() else {"gpus": [], "use": {}, "observe": [], "host": ""}
        told.update(what)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(told))
        draft.replace(path)

    def told_daemon(self, name: str, sizes: list[int], host: str = "", model: str = "NVIDIA A100-SXM4-80GB") -> None:
        """Enrol and start a daemon with GPUs of these sizes (MiB)."""
        identity = self.output / f"{name}.identity.json"
        self.enrol("server", name).save(identity)
        gpus = [{"id": f"GPU-{name}-{i}", "name": model, "memory_mib": size} for i, size in enumerate(sizes)]
        self.tell(name, gpus=gpus, host=host)
        with (self.output / f"{name}.log").open("a") as log:
            told = f"{self.output}/{name}.told.json"
            command = [sys.executable, str(HERE / "console_daemon.py"), str(identity), told]
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, text=True, env=ENVIRONMENT)

    def token(self, scope: str, hours: float = 0.0) -> str:
        made = self.gpuferry(
            "appliance", "token", "--data", str(self.folder), "--scope", scope, "--name", f"{scope} for tests",
            *(["--valid", str(hours)] if hours else []),
        )  # fmt: skip
        return made.stdout.strip()

    def profile(self, token: str, name: str = "token") -> Profile:
        path = self.output / f"{name}.txt"
        path.write_text(token + "\n")
        path.chmod(0o600)
        return Profile(self.site.config.api_url, str(path), str(self.folder / "ca.pem"))

    def lease(self, api: httpx.Client, client: str, **what: Any) -> dict[str, Any]:
        answer = api.post("/v1/leases", json={"client": client, **what}, params={"wait_s": 30})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def add_vcenter(self, simulation: Any) -> str:
        """Make a simulated vCenter known to the site; its id."""
        wanted = {
            "name": "lab",
            "address": f"{simulation.host}:{simulation.port}",
            "username": simulation.user,
            "password": simulation.password,
            "fingerprint": simulation.thumbprint,
        }
        with self.api as api:
            answer = api.post("/v1/vcenters", json=wanted)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def await_servers(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with self.api as api:
                items = api.get("/v1/pool/servers", params={"limit": 500}).json()["items"]
            if sum(each["connected"] and each["gpus"] > 0 for each in items) >= count:
                return
            assert time.monotonic() < deadline, items
            time.sleep(0.1)


def readings_of(name: str, count: int, heat: list[int], busy: list[int]) -> list[list[str]]:
    """What a daemon measures: temperatures in °C and use in % of its GPUs."""
    made = [["disk.free", "52000", ""], ["files.limit", "65536", ""], ["driver.version", "580.65", ""]]
    for i in range(count):
        gpu = f"GPU-{name}-{i}"
        made += [
            ["gpu.temperature", str(heat[i]), gpu],
            ["gpu.utilisation", str(busy[i]), gpu],
            ["gpu.power", str(90 + 3 * busy[i]), gpu],
            ["gpu.ecc", "0", gpu],
            ["gpu.throttle", "software thermal" if heat[i] > 88 else "none", gpu],
        ]
    return made


async def until(pilot: Pilot[Any], condition: Callable[[], object], what: str = "") -> None:
    """Let the console work until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass: {what}\n{screen_text(pilot.app)}\n"
        await pilot.pause(0.02)
        await asyncio.sleep(0.02)


def screen_text(app: Any) -> str:
    """What is on the screen now, as text."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in lines)


def shows(app: ConsoleApp, *texts: str) -> bool:
    """Whether all of these stand on the screen."""
    screen = screen_text(app)
    return all(text in screen for text in texts)


async def opened(pilot: Pilot[Any]) -> None:
    """Wait until the console is connected and its first tab is read."""
    app = pilot.app
    assert isinstance(app, ConsoleApp)
    await until(pilot, lambda: app.connected and app.current_pane and app.current_pane.loads, "opened")


async def showing(pilot: Pilot[Any], pane: type[Pane]) -> None:
    """Wait until a tab is looked at and read."""
    app = pilot.app
    assert isinstance(app, ConsoleApp)
    await until(pilot, lambda: isinstance(app.current_pane, pane) and app.current_pane.loads, pane.TITLE)
