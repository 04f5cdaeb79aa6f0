"""Which appliance, with which token: asked when nothing is remembered, and when a token is not accepted any more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Checkbox, Input, Label, Static

from tui.appliance import Appliance, ApplianceError
from tui.calls import get
from tui.dialogs.dialog import Dialog
from tui.profile import Profile, ProfileError, folder, keep_token


@dataclass(frozen=True)
class Login:
    profile: Profile
    remembered: bool


class LoginDialog(Dialog[Login]):
    """Asks until the appliance takes the token, or the user leaves."""

    DEFAULT_CSS = """
    LoginDialog Input { border: none; background: $panel; height: 1; padding: 0 1; margin-bottom: 1; }
    LoginDialog Label { color: $foreground 70%; }
    LoginDialog #why { color: $warning; height: auto; margin-bottom: 1; }
    LoginDialog Checkbox { border: none; padding: 0; }
    """

    def __init__(self, profile: Profile, why: str) -> None:
        super().__init__()
        self.profile = profile
        self.why = why

    def compose(self) -> ComposeResult:
        known = self.profile
        with Vertical(classes="box") as box:
            box.border_title = "Connect to an appliance"
            why = Static(self.why, id="why", markup=False)
            why.display = bool(self.why)
            yield why
            yield Label("Address of the REST API")
            yield Input(known.url, placeholder="https://gpu.lab:4743", id="url", compact=True)
            yield Label("CA file to trust (the site's ca.pem; empty: the system's authorities)")
            yield Input(known.ca, placeholder="/path/to/ca.pem", id="ca", compact=True)
            yield Label("File that holds the token")
            yield Input(known.token_file, placeholder=str(folder() / "token"), id="file", compact=True)
            yield Label("… or a token, typed or pasted: it is put into that file (mode 0600)")
            yield Input(password=True, placeholder="gft_…", id="token", compact=True)
            yield Checkbox("Remember this for the next time", value=True, id="remember")
            yield Static(id="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Connect", id="yes", variant="primary")
                yield Button("Leave", id="no")

    def on_mount(self) -> None:
        self.query_one("#token" if self.profile.url else "#url", Input).focus()

    @on(Button.Pressed, "#no")
    def _no(self) -> None:
        self.dismiss(None)

    @on(Input.Submitted)
    @on(Button.Pressed, "#yes")
    def _yes(self) -> None:
        self._try()

    @work(exclusive=True)
    async def _try(self) -> None:
        def value(name: str) -> str:
            return self.query_one(f"#{name}", Input).value.strip()

        url = value("url").rstrip("/")
        if not url.startswith(("https://", "http://")):
            self.problem("The address begins with https:// (or http:// where the site turned TLS off).")
            return
        profile = replace(self.profile, url=url, ca=value("ca"), token_file=value("file"))
        try:
            if value("token"):
                profile = keep_token(profile, value("token"))
            elif not profile.token_file:
                self.problem("Name the file that holds the token, or paste a token.")
                return
            appliance = Appliance(profile)
        except (ProfileError, OSError) as wrong:
            self.problem(str(wrong))
            return
        try:
            await appliance.send(get("/v1/whoami"))
        except ApplianceError as refused:
            self.problem(str(refused))
            return
        finally:
            await appliance.close()
        self.query_one("#file", Input).value = str(Path(profile.token_file))
        self.dismiss(Login(profile, self.query_one("#remember", Checkbox).value))
