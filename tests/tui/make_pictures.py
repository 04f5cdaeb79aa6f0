"""Takes the pictures of docs/console: every screen of a furnished site at 80×24 and 160×50, as SVG.

    python tests/tui/make_pictures.py [docs/console [NAME-80x24 ...]]

A simulated vCenter, a real appliance, daemons over the real bus; nothing in the pictures is drawn by hand.
"""

# ruff: noqa: E402 - the folders of the tests are put on the path first
from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE), str(HERE.parent / "appliance")]

from conftest import furnish
from console_site import PATIENCE_S, ConsoleSite, opened, showing, shows, until
from textual.pilot import Pilot

from tui.app import PANES, ConsoleApp
from tui.dialogs.run_form import RunForm
from tui.inventory_tree import InventoryTree
from tui.themes import COLOUR_BLIND, DAY, NO_COLOUR
from vcenter import simulator
from vcenter.simulator import GuestKind

SIZES = ((80, 24), (160, 50))
Step = Callable[[Pilot[int]], Awaitable[None]]


def tab(number: int) -> Step:
    async def step(pilot: Pilot[int]) -> None:
        await pilot.press(str(number))
        await showing(pilot, PANES[number - 1])

    return step


async def create_server(pilot: Pilot[int]) -> None:
    await tab(2)(pilot)
    tree = pilot.app.query_one(InventoryTree)
    await until(pilot, lambda: tree.items("host"))
    tree.move_cursor(next(node for node in tree.by_key.values() if node.data and node.data.kind == "host"))
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, RunForm) and pilot.app.screen.previews)


async def server(pilot: Pilot[int]) -> None:
    await tab(1)(pilot)
    await pilot.press("enter")
    await until(pilot, lambda: len(pilot.app.screen_stack) == 2 and shows(pilot.app, "ada"))


async def help_page(pilot: Pilot[int]) -> None:
    await pilot.press("question_mark")
    await until(pilot, lambda: shows(pilot.app, "Keys"))


async def palette(pilot: Pilot[int]) -> None:
    await tab(1)(pilot)
    await pilot.press("ctrl+p")
    await until(pilot, lambda: shows(pilot.app, "Go to Health"))


async def sessions(pilot: Pilot[int]) -> None:
    await tab(4)(pilot)
    await pilot.press("right_square_bracket")
    await until(pilot, lambda: shows(pilot.app, "Calls/s"))


SCREENS: dict[str, Step] = {
    "pool": tab(1),
    "vcenter": tab(2),
    "runs": tab(3),
    "leases": tab(4),
    "sessions": sessions,
    "health": tab(5),
    "events": tab(6),
    "settings": tab(7),
    "server": server,
    "create-server": create_server,
    "help": help_page,
    "palette": palette,
}


async def take(site: ConsoleSite, folder: Path, name: str, step: Step, size: tuple[int, int], theme: str = "") -> None:
    app = ConsoleApp(site.profile(site.admin_token))
    async with app.run_test(size=size) as pilot:
        await opened(pilot)
        if theme:
            app.theme = theme
        await step(pilot)
        for _ in range(10):
            await pilot.pause(0.1)
        picture = app.export_screenshot(title=f"gpuferry console: {name}", simplify=True)
        (folder / f"{name}-{size[0]}x{size[1]}.svg").write_text(picture)


async def take_all(site: ConsoleSite, folder: Path, wanted: list[str]) -> None:
    for size in reversed(SIZES):
        for name, step in SCREENS.items():
            if not wanted or f"{name}-{size[0]}x{size[1]}" in wanted:
                await take(site, folder, name, step, size)
    for theme in (DAY, COLOUR_BLIND, NO_COLOUR):
        name = f"pool-{theme.name.removeprefix('gpuferry-')}"
        if not wanted or name in wanted:
            await take(site, folder, name, tab(1), SIZES[0], theme.name)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/console")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="gpuferry-pictures-") as name,
        simulator.start(None, pace=0.005, guests=GuestKind.PAPER) as simulation,
    ):
        os.environ["XDG_CONFIG_HOME"] = name
        work = Path(name)
        site = ConsoleSite(work / "site", f"sqlite:///{work}/appliance.db")
        site.serve()
        try:
            site.await_up(PATIENCE_S)
            furnish(site)
            site.add_vcenter(simulation)
            with site.api as api:
                host = {"vcenter": "lab", "host": "esx-02.example.test", "on": True}
                api.post("/v1/runs", json={"kind": "passthrough", "parameters": host})
                wrong = {"vcenter": "lab", "host": "esx-09.example.test", "on": True}
                api.post("/v1/runs", json={"kind": "passthrough", "parameters": wrong})
            asyncio.run(take_all(site, folder, sys.argv[2:]))
        finally:
            site.close()


if __name__ == "__main__":
    main()
