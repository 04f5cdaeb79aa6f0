"""Administration in the console: tokens, groups, tickets, certificates, support bundle; filters, looks, commands."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from console_site import (
    ConsoleSite,
    choose,
    confirm,
    console,
    go_to,
    part,
    press_button,
    profile_of,
    screen_text,
    shows,
    token_of,
    until,
)
from provisioning_site import ProvisioningSite
from service_site import ENVIRONMENT
from textual.pilot import Pilot
from textual.widgets import Input, Select, Static

from tui.app import PANES, ConsoleApp
from tui.dialogs.command import CommandDialog
from tui.dialogs.form import Form
from tui.dialogs.secret import SecretDialog
from tui.dialogs.support_bundle import SupportBundleDialog
from tui.listing import Listing
from tui.pane import PartsPane
from tui.panes.health import HealthPane
from tui.panes.settings import SettingsPane
from tui.themes import COLOUR_BLIND, DAY, NIGHT, NO_COLOUR, THEMES


async def form(pilot: Pilot[int], key: str, **values: Any) -> Form:
    """Open a form by its key and fill it in."""
    app = pilot.app
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, Form), f"the form of key {key}")
    made = app.screen
    assert isinstance(made, Form)
    for name, value in values.items():
        field = made.query_one(f"#field-{name}")
        assert isinstance(field, (Input, Select))
        field.value = value
    await until(pilot, lambda: not made.values()[1], "nothing is wrong")
    return made


def answers_to(site: ConsoleSite, token: str) -> int:
    with site.client(token) as api:
        status: int = api.get("/v1/whoami").status_code
    return status


def test_a_token_is_made_shown_once_and_revoked(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site, SettingsPane, size=(140, 40)) as (app, pilot):
            tokens = await part(pilot, "tokens")
            made = await form(pilot, "n", name="for a dashboard", hours="")
            await pilot.press("ctrl+s")
            await until(pilot, lambda: isinstance(app.screen, SecretDialog), "shown")
            assert isinstance(app.screen, SecretDialog)
            secret = app.screen.secret
            assert answers_to(console_site, secret) == 200
            await pilot.press("escape")
            await until(pilot, lambda: made not in app.screen_stack)
            token = await choose(pilot, tokens, lambda each: each["name"] == "for a dashboard")
            assert token["scope"] == "read"
            assert secret not in screen_text(app)
            await confirm(pilot, "x")
            await until(pilot, lambda: shows(app, "⊘ revoked"), "the list shows it")
            assert answers_to(console_site, secret) == 401

    asyncio.run(scenario())


def test_a_group_gets_quotas_and_an_idle_time_out(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site, SettingsPane, size=(160, 40)) as (app, pilot):
            groups = await part(pilot, "groups")
            await form(pilot, "n", name="night owls", max_gpus="4")
            await pilot.press("ctrl+s")
            await choose(pilot, groups, lambda each: each["name"] == "night owls" and each["max_gpus"] == 4)
            opened = await form(pilot, "e", max_gpus="6", priority="-3", idle_after_s="900", max_memory_mib="40960")
            opened.query_one("#field-weight", Input).value = "none"
            await until(pilot, lambda: shows(app, "is no number"), "checked as it is typed")
            opened.query_one("#field-weight", Input).value = "2.5"
            await until(pilot, lambda: not opened.values()[1])
            await pilot.press("ctrl+s")
            group = await choose(pilot, groups, lambda each: each["name"] == "night owls" and each["max_gpus"] == 6)
            assert (group["weight"], group["priority"], group["idle_after_s"]) == (2.5, -3, 900)
            await until(pilot, lambda: shows(app, "night owls", "40 GiB", "15 min"))
            await confirm(pilot, "x")
            await until(pilot, lambda: not shows(app, "night owls"), "removed")

    asyncio.run(scenario())


def test_a_change_that_somebody_else_made_meanwhile_is_not_overwritten(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site, SettingsPane, size=(140, 40)) as (app, pilot):
            groups = await part(pilot, "groups")
            group = await choose(pilot, groups, lambda each: each["name"] == "default")
            opened = await form(pilot, "e", priority="5")
            with console_site.api as api:
                path, tag = f"/v1/groups/{group['id']}", {"If-Match": "*"}
                assert api.patch(path, json={"priority": 1}, headers=tag).status_code == 200
            await pilot.press("ctrl+s")
            await until(pilot, lambda: bool(opened.query("#problem.-there")), "refused, in the form")
            assert app.screen is opened
            assert opened.query_one("#field-priority", Input).value == "5", "nothing that was typed is lost"
            await pilot.press("escape")
            with console_site.api as api:
                assert api.patch(path, json={"priority": 0}, headers=tag).status_code == 200

    asyncio.run(scenario())


def test_a_ticket_enrols_and_certificates_are_shown(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site, SettingsPane, size=(140, 40)) as (app, pilot):
            tickets = await part(pilot, "enrolments")
            await form(pilot, "n", name="newcomer")
            await pilot.press("ctrl+s")
            await until(pilot, lambda: isinstance(app.screen, SecretDialog), "shown")
            assert isinstance(app.screen, SecretDialog)
            ticket = app.screen.secret
            await pilot.press("escape")
            await choose(pilot, tickets, lambda each: each["name"] == "newcomer")
            identity = str(console_site.output / "newcomer.json")
            enrolled = ("enrol", "--name", "newcomer", "--identity", identity, ticket)
            await asyncio.to_thread(console_site.gpuferry, *enrolled)
            await until(pilot, lambda: shows(app, "✔ used"), "the list shows that it was used")
            certificates = await part(pilot, "certificates")
            await until(pilot, lambda: len(certificates.documents) == 2)
            assert all(each["days_left"] > 30 for each in certificates.documents.values())
            assert shows(app, "● ", "days")

    asyncio.run(scenario())


def test_a_support_bundle_is_fetched_into_a_file(console_site: ConsoleSite, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"

    async def scenario() -> None:
        async with console(console_site, HealthPane) as (app, pilot):
            await pilot.press("b")
            await until(pilot, lambda: isinstance(app.screen, SupportBundleDialog))
            app.screen.query_one("#path", Input).value = str(tmp_path)
            await press_button(pilot)
            problem = app.screen.query_one("#problem", Static)
            await until(pilot, lambda: "is there already" in str(problem.render()), "nothing is overwritten")
            app.screen.query_one("#path", Input).value = str(path)
            await press_button(pilot)
            await until(pilot, lambda: len(app.screen_stack) == 1, "fetched")

    asyncio.run(scenario())
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as bundle:
        content = b"".join(file.read() for each in bundle if (file := bundle.extractfile(each)) is not None)
    assert b"gpu-a01" in content
    assert console_site.admin_token.encode() not in content


def test_every_list_is_filtered_as_one_types(console_site: ConsoleSite) -> None:
    async def scenario() -> None:
        async with console(console_site) as (app, pilot):
            for pane in PANES[2:]:
                await go_to(pilot, pane)
                shown = app.current_pane
                assert shown is not None
                for listing in shown.query(Listing):
                    if isinstance(shown, PartsPane):
                        await part(pilot, str(listing.id))
                    await pilot.press("slash", *"zyzzyva")
                    await until(pilot, lambda: not listing.documents, f"{listing.id} has none of it")  # noqa: B023
                    subtitle = "with “zyzzyva”"
                    await until(pilot, lambda: subtitle in str(listing.rows.border_subtitle))  # noqa: B023
                    await pilot.press("escape")
                    await until(pilot, lambda: not listing.words and listing.rows.has_focus)  # noqa: B023

    asyncio.run(scenario())


def test_what_every_tab_copies_is_a_command_that_works(console_site: ConsoleSite) -> None:
    async def scenario() -> list[str]:
        copied = []
        async with console(console_site) as (app, pilot):
            for pane in PANES:
                await go_to(pilot, pane)
                await pilot.press("y")
                await until(pilot, lambda: isinstance(app.screen, CommandDialog), f"{pane.TITLE} copies")
                copied += app.copied.splitlines()
                await pilot.press("escape")
                await until(pilot, lambda: len(app.screen_stack) == 1)
        return copied

    commands = asyncio.run(scenario())
    assert sum(each.startswith("curl ") for each in commands) == len(PANES)
    assert any(" gpuferry runs list" in each for each in commands)
    gpuferry = f'gpuferry() {{ {" ".join(map(str, [os.sys.executable, "-m", "clientagent.command"]))} "$@"; }}\n'  # type: ignore[attr-defined]
    for command in commands:
        assert console_site.admin_token not in command
        if command.startswith("curl ") or " gpuferry runs " in command:
            done = subprocess.run(
                ["bash", "-c", gpuferry + command], env=ENVIRONMENT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (command, done.stderr)


def test_looks_change_and_states_never_differ_by_colour_alone(
    console_site: ConsoleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(theme: str) -> tuple[str, set[str]]:
        async with console(console_site, size=(120, 30)) as (app, pilot):
            await until(pilot, lambda: shows(app, "gpu-a01", "gpu-b01", "93°"))
            assert app.theme == theme
            seen = {app.theme}
            for _ in THEMES:
                await pilot.press("ctrl+t")
                await pilot.pause()
                seen.add(app.theme)
                await until(pilot, lambda: shows(app, "● gpu-a01", "▲ gpu.temper", "● live"), app.theme)
            return app.theme, seen

    assert asyncio.run(scenario(NIGHT.name))[1] == {each.name for each in (NIGHT, DAY, COLOUR_BLIND, NO_COLOUR)}
    monkeypatch.setenv("NO_COLOR", "1")
    assert asyncio.run(scenario(NO_COLOUR.name))[0] == NO_COLOUR.name


def test_a_certificate_that_nobody_vouches_for_is_said(vcenter_site: ProvisioningSite, tmp_path: Path) -> None:
    told = profile_of(vcenter_site)
    (tmp_path / "empty.pem").write_text("")

    async def scenario(ca: str, *words: str) -> None:
        app = ConsoleApp(told.__class__(told.url, told.token_file, ca))
        async with app.run_test(size=(160, 30)) as pilot:
            await until(pilot, lambda: shows(app, *words))
            assert "Traceback" not in screen_text(app)

    asyncio.run(scenario("", "its certificate is not trusted: name the appliance's ca.pem with --ca"))
    asyncio.run(scenario(str(tmp_path / "empty.pem"), "empty.pem", "cannot be used"))
    asyncio.run(scenario(str(tmp_path / "none.pem"), "none.pem", "cannot be used"))


def test_a_read_token_opens_no_form(console_site: ConsoleSite) -> None:
    token = token_of(console_site, "read")

    async def scenario() -> None:
        async with console(console_site, SettingsPane, token=token, name="reader") as (app, pilot):
            await part(pilot, "groups")
            await pilot.press("n")
            await until(pilot, lambda: isinstance(app.screen, Form))
            assert app.screen.query_one("#yes").disabled
            assert shows(app, "Your token has scope read: this needs scope operator")
            before = (await asyncio.to_thread(groups)).json()
            await pilot.press("ctrl+s", "escape")
            assert (await asyncio.to_thread(groups)).json() == before

    def groups() -> httpx.Response:
        with console_site.api as api:
            return api.get("/v1/groups")

    asyncio.run(scenario())
