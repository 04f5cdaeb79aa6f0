"""The console on a real pool: real daemons on software GPUs, real programs, whose use it shows and which it ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from console_site import choose, confirm, console, go_to, part, press_button, screen_text, shows, until
from pool_site import ROOT, ClientMachine, PoolSite
from rich.text import Text
from textual.widgets import Input, RadioButton

from tui.calls import Document
from tui.dialogs.client import ClientDialog
from tui.dialogs.drain import DrainDialog
from tui.dialogs.server import ServerDialog
from tui.listing import Listing
from tui.panes.events import EventsPane
from tui.panes.leases import LeasesPane
from tui.panes.pool import PoolPane
from tui.pool_map import PoolMap

STEADY = str(Path(__file__).parent.parent / "appliance" / "steady_program.py")
HOLD = [str(ROOT / "tests" / "gpuserver" / "forwarding" / "driver_api.py"), "hold"]


def begun(client: ClientMachine, memory_mib: int, *program: str) -> subprocess.Popen[str]:
    """A program on a slice of so much memory; it has said its first line."""
    process = client.start("run", "-m", str(memory_mib), "--", sys.executable, *(program or (STEADY,)))
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=60)[1]
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Tell a program to end; its status and output."""
    output, errors = process.communicate("\n\n", timeout=120)
    return process.returncode, output + errors


def held(lease: Document) -> bool:
    return bool(lease["state"] == "active")


def test_sessions_show_what_running_programs_do(real_pool: PoolSite, ada: ClientMachine) -> None:
    working, idle = begun(ada, 256), begun(ada, 128, *HOLD)

    async def scenario() -> None:
        async with console(real_pool, LeasesPane, size=(160, 40)) as (app, pilot):
            sessions = await part(pilot, "sessions")

            def rates(program: str) -> Document:
                found = [each for each in sessions.documents.values() if program in each["program"]]
                return found[0] if found else {"calls_s": 0, "round_trips_s": 0, "bytes_s": 0, "idle_s": 0, "calls": 0}

            busy, still = "steady_program", "driver_api"
            await until(pilot, lambda: rates(busy)["calls_s"] > 0 and rates(busy)["round_trips_s"] > 0, "its rates")
            first = rates(busy)
            assert first["bytes_s"] > 0
            assert first["calls_s"] >= first["round_trips_s"], "every blocking round trip is a call"
            await until(pilot, lambda: rates(still)["idle_s"] >= 3, "idle time grows")
            assert rates(still)["calls_s"] == 0
            await until(pilot, lambda: rates(busy)["calls"] > first["calls"], "it goes on by itself")
            assert list(sessions.rows.titles)[:8] == [
                "Client",
                "Server",
                "N",
                "Calls/s",
                "Waits/s",
                "Bytes/s",
                "Memory",
                "Idle",
            ]
            line = next(each for each in screen_text(app).splitlines() if busy in each)
            assert "▊ ada" in line, line
            assert "s0" in line
            # The same on the map: whose slice, in proportion to the GPU's memory.
            await go_to(pilot, PoolPane)
            await until(pilot, lambda: shows(app, "384 MiB of 2 GiB leased"))
            bars = [each for each in screen_text(app).splitlines() if " ada" in each and "·" in each]
            cells = {row.index("▕") - row.index(" ada") + 1 for row in bars}
            free = bars[0].count("·")
            assert all(0.1 < each / (each + free) < 0.5 for each in cells), bars

    asyncio.run(scenario())
    for process, told in ((working, "right "), (idle, "still 0")):
        status, output = ended(process)
        assert (status, told in output) == (0, True), output


def test_a_lease_that_is_released_ends_its_program(real_pool: PoolSite, ada: ClientMachine) -> None:
    program = begun(ada, 512)

    async def scenario() -> None:
        async with console(real_pool, LeasesPane) as (app, pilot):
            leases = app.query_one("#leases", Listing)
            lease = await choose(pilot, leases, held)
            await confirm(pilot, "x")
            await until(pilot, lambda: not leases.documents, "the list shows it")
            await asyncio.to_thread(program.wait, 120)
            assert program.returncode != 0, "a program that lost its GPUs does not end well"
            await go_to(pilot, EventsPane)
            events = app.query_one("#events", Listing)
            await choose(pilot, events, lambda each: each["kind"] == "lease.ended" and each["subject"] == lease["id"])
            audit = await part(pilot, "audit")
            wanted = "lease released"
            await until(pilot, lambda: any(wanted in each["action"] for each in audit.documents.values()), wanted)

    asyncio.run(scenario())
    program.communicate()


def test_a_lease_is_released_from_the_map(real_pool: PoolSite, ada: ClientMachine) -> None:
    program = begun(ada, 512)

    async def scenario() -> None:
        async with console(real_pool, PoolPane, size=(140, 44)) as (app, pilot):
            await until(pilot, lambda: shows(app, " ada"), "its slice")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ServerDialog) and shows(app, "▊ ada", "steady_program"))
            dialog = app.screen
            assert isinstance(dialog, ServerDialog)
            row = next(number for number, (_, piece) in enumerate(dialog.at) if piece is not None)
            dialog.query_one("DataTable").move_cursor(row=row)  # type: ignore[attr-defined]
            await confirm(pilot, "x")
            await until(pilot, lambda: not shows(app, "▊ ada"), "gone from the server")

    asyncio.run(scenario())
    assert program.wait(120) != 0
    program.communicate()


def test_a_drained_server_ends_its_leases_at_the_deadline(real_pool: PoolSite, ada: ClientMachine) -> None:
    program = begun(ada, 512)

    async def scenario() -> None:
        async with console(real_pool, PoolPane) as (app, pilot):
            await until(pilot, lambda: app.query_one(PoolMap).details and shows(app, "● s0", " ada"))
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, DrainDialog) and shows(app, "it holds 1 lease."))
            app.screen.query_one("#minutes", Input).value = "0"
            await press_button(pilot)
            await until(pilot, lambda: shows(app, "■ s0  maintenance"), "drained")
            await asyncio.to_thread(program.wait, 120)
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, DrainDialog) and shows(app, "s0 is maintenance"))
            app.screen.query(RadioButton).first().value = True
            await press_button(pilot)
            await until(pilot, lambda: shows(app, "● s0  ready"))

    asyncio.run(scenario())
    assert program.returncode != 0
    program.communicate()
    again = begun(ada, 512)
    assert ended(again)[0] == 0, "the server serves again"


def test_a_quota_that_is_set_holds_and_the_queue_says_so(real_pool: PoolSite, ada: ClientMachine) -> None:
    async def quota(value: str, priority: str) -> None:
        async with console(real_pool, LeasesPane) as (app, pilot):
            clients = await part(pilot, "clients")
            await choose(pilot, clients, lambda each: each["name"] == "ada")
            await pilot.press("e")
            await until(pilot, lambda: isinstance(app.screen, ClientDialog))
            app.screen.query_one("#max_gpus", Input).value = "many"
            await press_button(pilot)
            await until(pilot, lambda: bool(app.screen.query("#problem.-there")), "checked before it is sent")
            app.screen.query_one("#max_gpus", Input).value = value
            app.screen.query_one("#priority", Input).value = priority
            await press_button(pilot)
            await until(pilot, lambda: len(app.screen_stack) == 1, "taken")
            shown = int(value) if value else None
            await until(
                pilot,
                lambda: (
                    [(each["max_gpus"], each["priority"]) for each in clients.documents.values()]
                    == [(shown, int(priority))]
                ),
            )

    async def waiting() -> None:
        async with console(real_pool, PoolPane, size=(160, 44)) as (app, pilot):
            queue = app.query_one("#queue", Listing)
            await until(pilot, lambda: [each["position"] for each in queue.documents.values()] == [1], "queued")
            (request,) = queue.documents.values()
            assert request["priority"] == 7
            await until(pilot, lambda: shows(app, "1 × 64 MiB", "waiting"))
            why = Text(request["reason"]).plain
            assert "quota" in why or "max" in why, why

    asyncio.run(quota("1", "7"))
    first = begun(ada, 512)
    second = ada.start("run", "-m", "64", "--timeout", "3m", "--", sys.executable, STEADY)
    asyncio.run(waiting())
    assert ended(first)[0] == 0
    assert ended(second)[0] == 0, "it is granted when the first one ended"
    asyncio.run(quota("", "0"))


def test_a_server_that_is_lost_is_shown_and_comes_back(real_pool: PoolSite, ada: ClientMachine) -> None:
    async def scenario() -> None:
        async with console(real_pool, PoolPane) as (app, pilot):
            await until(pilot, lambda: shows(app, "● s0  ready"))
            await asyncio.to_thread(real_pool.kill, "s0")
            await until(pilot, lambda: shows(app, "○ s0  away"), "away")
            await asyncio.to_thread(real_pool.gpu_server, "s0", 2)
            await until(pilot, lambda: shows(app, "● s0  ready"), "back")

    asyncio.run(scenario())
