"""The console against a real appliance: what it shows, what its keys change, that it stays right by events alone."""

from __future__ import annotations

import asyncio
import shlex
import subprocess

from console_site import (
    ConsoleSite,
    choose,
    console,
    go_to,
    press_button,
    readings_of,
    screen_text,
    shows,
    token_of,
    until,
)
from textual.app import App, ComposeResult
from textual.widgets import Button, Input

from tui.dialogs.command import CommandDialog
from tui.dialogs.confirm import ConfirmDialog
from tui.dialogs.drain import DrainDialog
from tui.dialogs.help import HelpDialog
from tui.dialogs.server import ServerDialog
from tui.listing import Listing, Table
from tui.panes.health import HealthPane
from tui.panes.leases import LeasesPane
from tui.panes.pool import PoolPane
from tui.pool_map import PoolMap, shares


def test_columns_are_as_wide_as_their_content_when_a_line_was_drawn_early() -> None:
    class Alone(App[None]):
        def compose(self) -> ComposeResult:
            yield Table()

    async def scenario() -> None:
        app = Alone()
        async with app.run_test(size=(60, 8)) as pilot:
            table = app.query_one(Table)
            table.add_columns("State", "Of")
            await pilot.pause()
            table.add_row("✖ failed", "esx-01.example.test")
            for line in range(3):
                table.render_line(line)  # what a busy machine does: drawn before the table was idle
            await until(pilot, lambda: "✖ failed  esx-01.example.test" in screen_text(app))

    asyncio.run(scenario())


def test_shares_are_in_proportion_and_never_too_many() -> None:
    assert shares([50, 25], 100, 40) == [20, 10]
    assert shares([1, 1, 98], 100, 50) == [1, 1, 48]
    assert sum(shares([1] * 40, 40, 20)) == 20
    assert shares([], 100, 10) == []
    assert shares([100], 100, 7) == [7]


def test_pool_shows_servers_slices_holders_use_and_queue(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site, size=(160, 50)) as (app, pilot):
            await until(pilot, lambda: shows(app, "gpu-a01", "gpu-b01", "● live"))
            await until(pilot, lambda: shows(app, "93°", "99%"), "live use")
            screen = screen_text(app)
            assert "60 GiB of 80 GiB leased" in screen
            for holder in ("ada", "grace", "katherine"):
                assert holder in screen
            queue = app.query_one("#queue", Listing)
            await until(pilot, lambda: [each["position"] for each in queue.documents.values()] == [1, 2, 3])
            assert app.query_one(PoolMap).servers[0]["gpus"] == 4
            # One line for each server instead of one for each GPU, and back.
            await pilot.press("z")
            await until(pilot, lambda: not shows(app, "A100-SXM4"), "zoomed")
            assert shows(app, "gpu-a01", "gpu-b01")
            await pilot.press("z")
            await until(pilot, lambda: shows(app, "A100-SXM4"))

    asyncio.run(scenario())


def test_pool_is_filtered_by_name(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site, size=(100, 30)) as (app, pilot):
            await until(pilot, lambda: shows(app, "gpu-a01", "gpu-b01"))
            await pilot.press("slash", *"b01", "enter")
            await until(pilot, lambda: not shows(app, "● gpu-a01"))
            assert [each["name"] for each in app.query_one(PoolMap).servers] == ["gpu-b01"]
            await pilot.press("escape")
            await until(pilot, lambda: shows(app, "gpu-a01", "gpu-b01"))

    asyncio.run(scenario())


def test_a_lease_granted_elsewhere_appears_by_itself_and_is_released_by_key(console_site: ConsoleSite) -> None:
    site = console_site

    async def scenario() -> None:
        async with console(site) as (app, pilot):
            await go_to(pilot, LeasesPane)
            before = set(app.query_one("#leases", Listing).documents)
            with site.api as api:
                ada = api.get("/v1/clients", params={"name": "ada"}).json()["items"][0]["id"]
                made = await asyncio.to_thread(site.lease, api, ada, gpus=1, memory_mib=512, program="appears")
            listing = app.query_one("#leases", Listing)
            await until(pilot, lambda: set(listing.documents) == before | {made["id"]}, "the new lease")
            await until(pilot, lambda: shows(app, "appears"))
            await pilot.press("slash", *"appears", "enter")
            await until(pilot, lambda: list(listing.documents) == [made["id"]], "only what was looked for")
            await pilot.press("x")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            assert isinstance(app.screen, ConfirmDialog)
            assert made["id"] in app.screen.text
            assert [call.method for call in app.screen.calls] == ["DELETE"]
            await press_button(pilot)
            await until(pilot, lambda: not isinstance(app.screen, ConfirmDialog))
            await until(pilot, lambda: not listing.documents, "released")
            with site.api as api:
                assert api.get(f"/v1/leases/{made['id']}").json()["state"] == "ended"

    asyncio.run(scenario())


def test_what_is_copied_as_command_does_the_same(console_site: ConsoleSite) -> None:
    async def scenario() -> str:
        async with console(console_site) as (app, pilot):
            await until(pilot, lambda: shows(app, "gpu-a01"))
            await pilot.press("y")
            await until(pilot, lambda: isinstance(app.screen, CommandDialog))
            return app.copied

    copied = asyncio.run(scenario())
    command = copied.splitlines()[-1]
    assert command.startswith("curl ")
    assert console_site.admin_token not in command
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"name":"gpu-a01"' in done.stdout
    assert shlex.split(command)[-1].startswith("https://")


def test_a_server_is_drained_and_put_back(console_site: ConsoleSite) -> None:
    site = console_site

    def state() -> str:
        with site.api as api:
            (found,) = api.get("/v1/servers", params={"name": "gpu-b01"}).json()["items"]
            return str(found["state"])

    async def scenario() -> None:
        async with console(site) as (app, pilot):
            await until(pilot, lambda: shows(app, "gpu-b01"))
            app.query_one(PoolMap).action_edge(1)
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, DrainDialog) and shows(app, "gpu-b01 is active"))
            app.screen.query_one("#minutes", Input).value = "x"
            await press_button(pilot)
            await until(pilot, lambda: shows(app, "The deadline is a number of minutes"))
            assert await asyncio.to_thread(state) == "active"
            app.screen.query_one("#minutes", Input).value = "600"
            await press_button(pilot)
            await until(pilot, lambda: not isinstance(app.screen, DrainDialog))
            await until(pilot, lambda: shows(app, "◐ gpu-b01  draining"), "the map says so")
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, DrainDialog) and shows(app, "gpu-b01 is draining"))
            await pilot.press("home")
            app.screen.query("RadioButton").first().value = True  # type: ignore[attr-defined]
            await press_button(pilot)
            await until(pilot, lambda: shows(app, "● gpu-b01  ready"))
            assert await asyncio.to_thread(state) == "active"

    asyncio.run(scenario())


def test_server_dialog_shows_slices_and_health_says_what_to_do(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site, size=(140, 44)) as (app, pilot):
            await until(pilot, lambda: app.query_one(PoolMap).details)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ServerDialog) and shows(app, "torchrun finetune.py"))
            await until(pilot, lambda: shows(app, "gpu.temperature 93", "on host esx-a01", "katherine"))
            await pilot.press("escape", "5")
            await until(pilot, lambda: shows(app, "What it means"))
            readings = app.query_one("#readings", Listing)
            await until(pilot, lambda: readings.documents and shows(app, "Check the host's fans"))
            states = [each["state"] for each in readings.documents.values()]
            assert states[0] == "warning"
            assert states == sorted(states, key=["failed", "warning", "unknown", "ok"].index)
            await pilot.press("o")
            await until(pilot, lambda: {each["state"] for each in readings.documents.values()} == {"warning"})

    asyncio.run(scenario())


def test_measuring_again_brings_new_readings(console_site: ConsoleSite) -> None:
    site = console_site

    async def scenario() -> None:
        async with console(site) as (app, pilot):
            await go_to(pilot, HealthPane)
            readings = app.query_one("#readings", Listing)
            key = "files.limit"

            def limit() -> set[str]:
                with site.api as api:
                    items = api.get("/v1/health", params={"words": key}).json()["items"]
                return {each["state"] for each in items if each["check"] == key}

            await pilot.press("slash", *key, "enter")
            b01 = "gpu-b01"
            await choose(
                pilot, readings, lambda each: app.names.subject(each["subject"]).startswith(b01), f"{key} of b01"
            )
            told = readings_of("gpu-b01", 2, [61, 64], [87, 35])
            site.tell("gpu-b01", observe=[["files.limit", "777", ""], *told[2:]])
            await pilot.press("c")
            await until(pilot, lambda: any(each["value"] == "777" for each in readings.documents.values()), "measured")
            assert "warning" in await asyncio.to_thread(limit)
            site.tell("gpu-b01", observe=told)
            await pilot.press("c")
            await until(pilot, lambda: not any(each["value"] == "777" for each in readings.documents.values()))

    asyncio.run(scenario())


def test_help_explains_the_words_and_the_palette_finds_everything(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site, size=(100, 60)) as (app, pilot):
            await until(pilot, lambda: app.query_one(PoolPane).loads)
            await pilot.press("question_mark")
            await until(pilot, lambda: isinstance(app.screen, HelpDialog) and shows(app, "A share of one GPU"))
            await pilot.press("escape", "ctrl+p")
            await until(pilot, lambda: shows(app, "Go to Health", "Drain", "Copy as command"))
            await pilot.press(*"b01")
            await until(pilot, lambda: shows(app, "GPU server gpu-b01"))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ServerDialog) and shows(app, "gpu-b01", "grace"))

    asyncio.run(scenario())


def test_a_read_token_sees_everything_and_changes_nothing(console_site: ConsoleSite) -> None:
    token = token_of(console_site, "read")

    async def scenario() -> None:
        async with console(console_site, token=token, name="reader") as (app, pilot):
            await until(pilot, lambda: shows(app, "read-only", "gpu-a01"))
            await go_to(pilot, LeasesPane)
            await until(pilot, lambda: app.query_one("#leases", Listing).documents)
            await pilot.press("x")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            assert app.screen.query_one("#yes", Button).disabled
            assert shows(app, "Your token only reads")
            await pilot.press("escape", "6", "right_square_bracket")
            await until(pilot, lambda: shows(app, "needs a token of scope admin"))

    asyncio.run(scenario())
