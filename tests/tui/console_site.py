"""A small site for the console: a real appliance process, daemons and clients over the real bus, leases and a queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
from provisioning_site import ProvisioningSite
from service_site import ENVIRONMENT, ServiceSite
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Button
from textual.widgets.tree import TreeNode

from tui.app import PANES, ConsoleApp
from tui.calls import Document
from tui.dialogs.confirm import ConfirmDialog
from tui.dialogs.run_form import RunForm
from tui.inventory_tree import InventoryTree, Item
from tui.listing import Listing
from tui.pane import Pane, PartsPane
from tui.profile import Profile

HERE = Path(__file__).parent
PATIENCE_S = 120.0
GIB = 1024


class ConsoleSite(ProvisioningSite):
    """A site with daemons that say what a test tells them."""

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

    def lease(self, api: httpx.Client, client: str, **what: Any) -> dict[str, Any]:
        answer = api.post("/v1/leases", json={"client": client, **what}, params={"wait_s": 30})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def await_servers(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with self.api as api:
                items = api.get("/v1/pool/servers", params={"limit": 500}).json()["items"]
            if sum(each["connected"] and each["gpus"] > 0 for each in items) >= count:
                return
            assert time.monotonic() < deadline, items
            time.sleep(0.1)


def token_of(site: ServiceSite, scope: str, hours: float = 0.0) -> str:
    """A new token, made by the command; without hours it is valid as long as tokens are."""
    valid = ["--valid", str(hours)] if hours else []
    told = ["--data", str(site.folder), "--scope", scope, "--name", f"{scope} for tests", *valid]
    return site.gpuferry("appliance", "token", *told).stdout.strip()


def profile_of(site: ServiceSite, token: str = "", name: str = "token") -> Profile:
    """A profile of the console for a site; without a token with the administrator's."""
    path = site.output / f"{name}.txt"
    path.write_text((token or site.admin_token) + "\n")
    path.chmod(0o600)
    return Profile(site.site.config.api_url, str(path), str(site.folder / "ca.pem"))


@contextlib.asynccontextmanager
async def console(
    site: ServiceSite,
    pane: type[Pane] | None = None,
    *,
    size: tuple[int, int] = (120, 40),
    token: str = "",
    name: str = "token",
) -> AsyncIterator[tuple[ConsoleApp, Pilot[int]]]:
    """A console of the site, connected, with a tab that is read."""
    app = ConsoleApp(profile_of(site, token, name))
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        if pane is not None:
            await go_to(pilot, pane)
        yield app, pilot


async def go_to(pilot: Pilot[int], pane: type[Pane]) -> None:
    """Choose a tab by its key, and wait until it is read."""
    await pilot.press(str(PANES.index(pane) + 1))
    await showing(pilot, pane)


async def part(pilot: Pilot[int], name: str) -> Listing:
    """Choose a list of the tab that is shown, by its key; the list, read."""
    app = pilot.app
    assert isinstance(app, ConsoleApp)
    pane = app.current_pane
    assert isinstance(pane, PartsPane)
    for _ in range(10):
        if pane.part == name:
            break
        before = pane.part
        await pilot.press("right_square_bracket")
        await until(pilot, lambda before=before: pane.part != before, f"another list than {before}")  # type: ignore[misc]
    assert pane.part == name
    loads = pane.loads
    await pilot.press("f5")
    await until(pilot, lambda: pane.loads > loads, f"{name} is read")
    return pane.listing


async def choose(
    pilot: Pilot[int], listing: Listing, condition: Callable[[Document], bool], what: str = ""
) -> Document:
    """Put the cursor on the first document that fulfils a condition, as soon as there is one."""

    def found() -> list[int]:
        return [number for number, each in enumerate(listing.documents.values()) if condition(each)]

    await until(pilot, found, what or "a document")
    listing.rows.move_cursor(row=found()[0])
    await until(pilot, lambda: listing.chosen is not None and condition(listing.chosen), what)
    chosen = listing.chosen
    assert chosen is not None
    return chosen


async def at_item(pilot: Pilot[int], kind: str, name: str) -> None:
    """Put the cursor of the vCenter tree on something, as soon as it is there."""
    tree = pilot.app.query_one(InventoryTree)

    def node() -> TreeNode[Item] | None:
        found = (each for each in tree.by_key.values() if each.data and each.data.kind == kind)
        return next((each for each in found if each.data and each.data.document["name"] == name), None)

    await until(pilot, node, f"{kind} {name}")
    tree.move_cursor(node())
    await until(pilot, lambda: tree.item is not None and tree.item.document["name"] == name)


async def form_for(pilot: Pilot[int], key: str) -> RunForm:
    """Press a key of the tab vCenter that opens the form of a run; the form, when the appliance has tried it dry."""
    app = pilot.app
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, RunForm) and app.screen.previews, f"the form of key {key}")
    assert isinstance(app.screen, RunForm)
    return app.screen


async def confirm(pilot: Pilot[int], key: str) -> None:
    """Press a key that asks first, and say yes; done when the appliance has taken it."""
    await pilot.press(key)
    await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmDialog), f"key {key} asks")
    await press_button(pilot)
    await until(pilot, lambda: not isinstance(pilot.app.screen, ConfirmDialog), "taken")


def run_on_screen(app: App[Any], id_: str) -> Document | None:
    return app.query_one("#runs", Listing).documents.get(id_)


async def in_state(pilot: Pilot[int], id_: str, *states: str) -> Document:
    """Wait until the list of runs shows a run in one of these states, by itself."""
    app = pilot.app
    await until(pilot, lambda: (run_on_screen(app, id_) or {"state": ""})["state"] in states, f"{id_} is {states}")
    run = run_on_screen(app, id_)
    assert run is not None
    return run


async def newest(pilot: Pilot[int], site: ProvisioningSite, kind: str, subject: str) -> str:
    """The run that was just started from the console; the cursor is on it."""
    listing = pilot.app.query_one("#runs", Listing)
    told = await asyncio.to_thread(site.get, f"/v1/runs?kind={kind}&subject={subject}")
    id_ = str(told["items"][0]["id"])
    await choose(pilot, listing, lambda each: each["id"] == id_, f"{kind} {subject} is listed")
    return id_


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


async def until(
    pilot: Pilot[Any], condition: Callable[[], object], what: str = "", seconds: float = PATIENCE_S
) -> None:
    """Let the console work until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass: {what}\n{screen_text(pilot.app)}\n"
        await pilot.pause(0.02)
        await asyncio.sleep(0.02)


async def press_button(pilot: Pilot[Any], selector: str = "#yes") -> None:
    """Click a button as soon as it can be: it is enabled, and does not still show its last press."""

    def ready() -> bool:
        buttons = pilot.app.screen.query(selector).results(Button)
        return any(not each.disabled and not each.has_class("-active") for each in buttons)

    await until(pilot, ready, f"the button {selector}")
    await pilot.pause()
    assert await pilot.click(selector), f"{selector} is covered\n{screen_text(pilot.app)}"


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


def furnish(site: ConsoleSite) -> None:
    """Fill a running site with servers, clients, leases and a queue."""
    sizes = {"gpu-a01": [80 * GIB] * 4, "gpu-b01": [40 * GIB] * 2}
    for name, gpus in sizes.items():
        site.told_daemon(name, gpus, host=f"esx-{name[4:]}")
        site.tell(
            name,
            observe=readings_of(name, len(gpus), [61, 64, 93, 58][: len(gpus)], [87, 35, 99, 0][: len(gpus)]),
            use={"*": {"sessions": 1, "idle_s": 2.0, "memory_mib": 900, "calls": 1, "bytes": 1, "round_trips": 1}},
        )
    site.await_servers(2)
    clients = {name: site.enrol("client", name).id for name in ("ada", "grace", "katherine", "render-farm")}
    with site.api as api:
        for client, wanted in (
            ("ada", {"gpus": 1, "memory_mib": 24 * GIB, "program": "python train.py"}),
            ("grace", {"gpus": 1, "memory_mib": 16 * GIB, "program": "./simulate --steps 4000"}),
            ("ada", {"gpus": 2, "memory_mib": 30 * GIB, "program": "torchrun finetune.py"}),
            ("katherine", {"gpus": 1, "memory_mib": 8 * GIB, "program": "jupyter-lab"}),
            ("grace", {"gpus": 1, "fraction": 1.0, "filters": ["device.phy-memory=81920"], "program": "./simulate"}),
            ("katherine", {"gpus": 1, "memory_mib": 20 * GIB, "filters": ["server.hostname=gpu-b01"]}),
        ):
            made = site.lease(api, clients[client], **wanted)
            assert made["state"] == "active", made
        for number in range(3):
            queued = api.post(
                "/v1/leases",
                params={"wait_s": 0},
                json={"client": clients["render-farm"], "gpus": 4, "program": f"blender --frame {number}"},
            )
            assert queued.status_code == 201, queued.text
