"""Bad luck and bad input: said plainly, nothing lost, no traceback."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from console_site import console, screen_text, shows, token_of, until
from provisioning_site import ProvisioningSite
from sqlalchemy import update
from textual.widgets import Input

from appliance.state.database import writing
from appliance.state.models import ApiToken, now
from tui import profile as profiles
from tui.app import ConsoleApp
from tui.calls import Call
from tui.dialogs.login import LoginDialog
from tui.dialogs.too_small import TooSmall
from tui.listing import Listing
from tui.panes.settings import SettingsPane
from tui.profile import Profile, ProfileError


def test_a_lost_connection_is_shown_and_recovers(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site

    async def scenario() -> None:
        async with console(site, SettingsPane, size=(110, 30)) as (app, pilot):
            await until(pilot, lambda: shows(app, "heartbeat s"))
            await asyncio.to_thread(site.kill, "appliance")
            await until(pilot, lambda: shows(app, "✖ not connected"), "lost")
            assert shows(app, "heartbeat s"), "what was read stays on the screen"
            streams = app.streams
            site.serve()
            await until(pilot, lambda: app.connected and app.streams > streams and shows(app, "● live"), "recovered")
            with site.api as api:
                answer = await asyncio.to_thread(
                    api.patch, "/v1/settings", json={"patience_s": 77}, headers={"If-Match": "*"}
                )
                assert answer.status_code == 200
            await pilot.press("f5")
            await until(pilot, lambda: shows(app, "77.0"), "reads again")

    asyncio.run(scenario())


def test_an_expired_token_is_said_and_a_new_one_taken(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site
    token, fresh = token_of(site, "operator", 1.0), token_of(site, "operator")

    def expire() -> None:
        with writing(site.engine) as session:
            session.execute(
                update(ApiToken).where(ApiToken.expires_at.is_not(None)).values(expires_at=now() - timedelta(minutes=1))
            )

    async def scenario() -> None:
        async with console(site, token=token, name="expiring", size=(110, 34)) as (app, pilot):
            await asyncio.to_thread(expire)
            await until(pilot, lambda: isinstance(app.screen, LoginDialog), "asked for another token")
            await until(pilot, lambda: shows(app, "this token expired at"))
            app.screen.query_one("#token", Input).value = "gft_nonsense"
            await pilot.press("enter")
            await until(pilot, lambda: shows(app, "this token is not known here"), "a wrong one is refused")
            app.screen.query_one("#token", Input).value = fresh
            await pilot.press("enter")
            await until(pilot, lambda: app.connected and shows(app, "● live") and len(app.screen_stack) == 1)

    asyncio.run(scenario())
    file = site.output / "expiring.txt"
    assert file.read_text().strip() == fresh
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    known = profiles.recall()
    assert known.url == site.site.config.api_url
    assert stat.S_IMODE((profiles.folder() / "console.json").stat().st_mode) == 0o600
    assert fresh not in (profiles.folder() / "console.json").read_text()


def test_a_terminal_that_is_too_small_is_told_so_and_nothing_is_lost(vcenter_site: ProvisioningSite) -> None:
    async def scenario() -> None:
        async with console(vcenter_site, SettingsPane, size=(80, 24)) as (app, pilot):
            await until(pilot, lambda: shows(app, "heartbeat s"))
            await pilot.press("slash", *"idle", "enter")
            listing = app.query_one("#settings", Listing)
            await until(pilot, lambda: set(listing.documents) == {"idle_after_s", "idle_notice_s"})
            await pilot.resize_terminal(60, 20)
            await until(pilot, lambda: isinstance(app.screen, TooSmall))
            assert shows(app, "60×20", "80×24")
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: not isinstance(app.screen, TooSmall))
            assert listing.words == "idle"
            assert shows(app, "idle after s")

    asyncio.run(scenario())


def test_a_setting_is_checked_as_it_is_typed_and_changed(vcenter_site: ProvisioningSite) -> None:
    site = vcenter_site

    async def scenario() -> None:
        async with console(site, SettingsPane, size=(100, 34)) as (app, pilot):
            await until(pilot, lambda: shows(app, "heartbeat s"))
            await pilot.press("slash", *"idle after", "enter")
            listing = app.query_one("#settings", Listing)
            await until(pilot, lambda: set(listing.documents) == {"idle_after_s"})
            await pilot.press("enter")
            await until(pilot, lambda: len(app.screen_stack) == 2 and shows(app, "Setting idle after s"))
            field = app.screen.query_one("#field-idle_after_s", Input)
            field.value = "99999999999"
            await until(pilot, lambda: shows(app, "at most"), "checked by the appliance's own bounds")
            assert app.screen.query_one("#yes").disabled
            field.value = "900"
            await until(pilot, lambda: not app.screen.query_one("#yes").disabled)
            await pilot.press("ctrl+s")
            await until(pilot, lambda: len(app.screen_stack) == 1 and shows(app, "900"))
            with site.api as api:
                assert (await asyncio.to_thread(api.get, "/v1/settings")).json()["idle_after_s"] == 900

    asyncio.run(scenario())


def test_an_appliance_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("gft_any\n")

    async def scenario() -> None:
        app = ConsoleApp(Profile("https://127.0.0.1:9", str(tmp_path / "token")))
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: shows(app, "not connected", "nothing listens there"))
            assert "Traceback" not in screen_text(app)

    asyncio.run(scenario())


def test_the_command_says_what_is_wrong(vcenter_site: ProvisioningSite, tmp_path: Path) -> None:
    url = vcenter_site.site.config.api_url
    for arguments, told in (
        (["--url", "gpu.lab"], "it begins with https://"),
        (["--web"], "name --url and --token-file"),
        (["--web", "--url", url, "--token-file", str(tmp_path / "none")], "cannot be read"),
        (["--web", "--url", url, "--token-file", "t", "--listen", "4744"], "say HOST:PORT"),
    ):
        done = vcenter_site.gpuferry("console", *arguments, check=False)
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert "console" in vcenter_site.gpuferry("--help").stdout


def test_profiles_are_remembered_without_secrets(tmp_path: Path) -> None:
    made = Profile("https://gpu.lab:4743", str(tmp_path / "token"), "/ca.pem")
    assert profiles.recall() == Profile()
    profiles.remember(made)
    assert profiles.recall() == made
    kept = profiles.keep_token(replace(made, token_file=""), "gft_secret")
    assert kept.token() == "gft_secret"
    assert stat.S_IMODE(Path(kept.token_file).stat().st_mode) == 0o600
    (profiles.folder() / "console.json").write_text("{")
    with pytest.raises(ProfileError, match="mend or remove it"):
        profiles.recall()
    Path(kept.token_file).write_text("two words\n")
    with pytest.raises(ProfileError, match="holds no token"):
        kept.token()


def test_commands_to_copy_never_hold_secrets() -> None:
    body = {"name": "lab", "password": "hunter2", "ssh": {"user": "root", "sudo_password": "s3cret", "key": "PEM"}}
    text = Call("POST", "/v1/vcenters", body=body).curl(Profile("https://gpu.lab:4743", "/etc/token"))
    assert "hunter2" not in text
    assert "s3cret" not in text
    assert "PEM" not in text
    assert '"$(cat /etc/token)"' not in text
    assert "$(cat /etc/token)" in text
    assert json.loads(text.split(" -d ")[1].split("' ")[0].strip("'"))["ssh"]["user"] == "root"
