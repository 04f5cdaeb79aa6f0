"""Every screen of the console, as pictures (SVG) of a furnished site, and what a picture says, for comparing."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from console_site import PATIENCE_S, ConsoleSite, at_item, console, furnish, go_to, part, screen_text, shows, until
from textual.pilot import Pilot

from tui.app import PANES, ConsoleApp
from tui.dialogs.drain import DrainDialog
from tui.dialogs.run_form import RunForm
from tui.dialogs.server import ServerDialog
from tui.panes.events import EventsPane
from tui.panes.leases import LeasesPane
from tui.panes.pool import PoolPane
from tui.panes.runs import RunsPane
from tui.panes.settings import SettingsPane
from tui.panes.vcenter import VcenterPane
from tui.pool_map import PoolMap
from tui.themes import COLOUR_BLIND, DAY, NO_COLOUR
from vcenter import simulator
from vcenter.simulator import GuestKind

SIZES = ((80, 24), (160, 50))
Step = Callable[[Pilot[int]], Awaitable[None]]


def tab(number: int, name: str = "", told: str = "") -> Step:
    async def step(pilot: Pilot[int]) -> None:
        await go_to(pilot, PANES[number - 1])
        if name:
            await part(pilot, name)
        app = pilot.app
        assert isinstance(app, ConsoleApp)
        # The gauges of the pool begin with their first measurement.
        await until(pilot, lambda: shows(app, told) and not shows(app, "– mean use"), told)

    return step


async def runs(pilot: Pilot[int]) -> None:
    await go_to(pilot, RunsPane)
    await until(pilot, lambda: shows(pilot.app, "✔ succeeded", "✖ failed", "esx-09"))  # type: ignore[arg-type]
    await pilot.press("g")


async def create_server(pilot: Pilot[int]) -> None:
    await go_to(pilot, VcenterPane)
    await at_item(pilot, "host", "esx-01.example.test")
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, RunForm) and pilot.app.screen.previews)


async def server(pilot: Pilot[int]) -> None:
    await go_to(pilot, PoolPane)
    await until(pilot, lambda: pilot.app.query_one(PoolMap).details)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, ServerDialog) and pilot.app.screen.at)


async def drain(pilot: Pilot[int]) -> None:
    await go_to(pilot, PoolPane)
    await until(pilot, lambda: pilot.app.query_one(PoolMap).details)
    await pilot.press("d")
    await until(pilot, lambda: isinstance(pilot.app.screen, DrainDialog) and pilot.app.screen.document)


async def help_page(pilot: Pilot[int]) -> None:
    await pilot.press("question_mark")
    await until(pilot, lambda: shows(pilot.app, "Keys", "the tabs"))  # type: ignore[arg-type]


async def palette(pilot: Pilot[int]) -> None:
    await go_to(pilot, PoolPane)
    await pilot.press("ctrl+p")
    await until(pilot, lambda: shows(pilot.app, "Go to Pool"))  # type: ignore[arg-type]


SCREENS: dict[str, Step] = {
    "pool": tab(1, told="93°"),
    "server": server,
    "drain": drain,
    "vcenter": tab(2, told="esx-01.example.test"),
    "create-server": create_server,
    "runs": runs,
    "leases": tab(PANES.index(LeasesPane) + 1, "leases", "torchrun"),
    "sessions": tab(PANES.index(LeasesPane) + 1, "sessions", "Calls/s"),
    "clients": tab(PANES.index(LeasesPane) + 1, "clients", "render-farm"),
    "health": tab(5, told="What it means"),
    "events": tab(PANES.index(EventsPane) + 1, "events", "run.succeeded"),
    "audit": tab(PANES.index(EventsPane) + 1, "audit", "run"),
    "settings": tab(PANES.index(SettingsPane) + 1, "settings", "heartbeat s"),
    "groups": tab(PANES.index(SettingsPane) + 1, "groups", "default"),
    "tokens": tab(PANES.index(SettingsPane) + 1, "tokens", "admin"),
    "certificates": tab(PANES.index(SettingsPane) + 1, "certificates", "days"),
    "help": help_page,
    "palette": palette,
}
LOOKS = {theme.name.removeprefix("gpuferry-"): theme.name for theme in (DAY, COLOUR_BLIND, NO_COLOUR)}
CHANGING = frozenset({"events", "audit", "health", "runs", "palette"})
"""Screens whose rows depend on what was heard first: only their frames are compared."""


@contextlib.contextmanager
def pictured_site(work: Path) -> Iterator[ConsoleSite]:
    """A furnished site with a simulated vCenter, a run that went well and one that failed."""
    with simulator.start(None, pace=0.005, guests=GuestKind.PAPER) as simulation:
        site = ConsoleSite(work / "site", f"sqlite:///{work}/appliance.db")
        site.serve()
        try:
            site.await_up(PATIENCE_S)
            with site.api as api:  # so that no reason in the queue changes while pictures are taken
                changed = api.patch("/v1/settings", json={"patience_s": 3600}, headers={"If-Match": "*"})
                assert changed.status_code == 200, changed.text
            furnish(site)
            site.add_vcenter(simulation)
            site.inventory()
            site.succeeded(site.start("passthrough", vcenter="lab", host="esx-02.example.test", on=True))
            site.ended(site.start("passthrough", vcenter="lab", host="esx-09.example.test", on=True))
            yield site
        finally:
            site.close()


async def settled(pilot: Pilot[int]) -> None:
    """Wait until the screen stays as it is for a moment."""
    before, same = "", 0
    for _ in range(100):
        await pilot.pause(0.1)
        now = " ".join(plain(line) for line in screen_text(pilot.app).splitlines())
        same = same + 1 if now == before else 0
        if same == 3:
            return
        before = now


async def take(site: ConsoleSite, size: tuple[int, int], wanted: list[str]) -> dict[str, str]:
    """The pictures of the named screens, by name; one console shows them one after another."""
    made = {}
    async with console(site, PoolPane, size=size) as (app, pilot):
        for name in wanted:
            app.theme = LOOKS.get(name.removeprefix("pool-"), "gpuferry-night")
            await SCREENS[name if name in SCREENS else "pool"](pilot)
            await settled(pilot)
            made[name] = app.export_screenshot(title=f"gpuferry console: {name}", simplify=True)
            while len(app.screen_stack) > 1:
                app.pop_screen()
            await pilot.pause()
    return made


def file_name(name: str, size: tuple[int, int]) -> str:
    return f"{name}-{size[0]}x{size[1]}.svg"


def take_all(site: ConsoleSite, size: tuple[int, int]) -> dict[str, str]:
    """Every picture of a size, by its file's name; the other looks only of the smaller size."""
    names = [*SCREENS, *([f"pool-{look}" for look in LOOKS] if size == SIZES[0] else [])]
    return {file_name(name, size): picture for name, picture in asyncio.run(take(site, size, names)).items()}


# What a picture says

CHANGES = (
    (re.compile(r"\b(?:lease|run|server|client|group|token|vcenter|gpu|key)(?:-[0-9a-z]{6,}…?| …[0-9a-z]{5})"), "ID"),
    (re.compile(r"\b(?:[0-9A-F]{2}:)+[0-9A-F]*…?|\b[0-9a-f]{8,}…?"), "HEX"),
    (re.compile(r"[▁▂▃▄▅▆▇█▏▎▍▌▋▊▉]+"), "▁"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d\d:\d\d:\d\d"), "AT"),
    (re.compile(r"\d+(?:\.\d+)?(?: (?:s|min|h|d)\b(?: \d+ min)?)?"), "#"),
    (re.compile(r"[─━╺╸╭╮╰╯│·╱]+"), " "),
    (re.compile(r"\s+"), " "),
    (re.compile(r"▁(?: ▁)+"), "▁"),  # a sparkline is drawn in pieces, as many as its history has
)
CUT = 6
"""A line that ends at the edge of its list may be so many letters longer or shorter, by the times that stand in it."""


def plain(line: str) -> str:
    """A line without what differs from one run of the site to the next: times, ids, numbers, frames."""
    for pattern, instead in CHANGES:
        line = pattern.sub(instead, line)
    return line.strip()


def lines_of(picture: str) -> list[str]:
    """The text of a picture, line by line."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for each in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text"):  # noqa: S314 - our own
        if "clip-path" in each.attrib:
            place = float(each.attrib["x"]), "".join(each.itertext()).replace("\xa0", " ")
            rows.setdefault(float(each.attrib["y"]), []).append(place)
    return [" ".join(text for _, text in sorted(pieces)) for _, pieces in sorted(rows.items())]


def said(name: str, picture: str) -> list[str]:
    """What a picture says, comparable with another of the same screen of another site."""
    lines = [made for line in lines_of(picture) if (made := plain(line))]
    if name.rpartition("-")[0] in CHANGING:
        lines = [*lines[:3], *lines[-1:]]
    return sorted(lines)


def differences(before: list[str], now: list[str]) -> list[str]:
    """Lines that only one of two pictures has."""

    def has(lines: list[str], line: str) -> bool:
        return any(
            each == line
            or (abs(len(each) - len(line)) <= CUT < len(each) and (each.startswith(line) or line.startswith(each)))
            for each in lines
        )

    return [f"- {each}" for each in before if not has(now, each)] + [
        f"+ {each}" for each in now if not has(before, each)
    ]
