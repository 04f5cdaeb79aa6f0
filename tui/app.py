"""The console: seven tabs over one appliance, kept live by one stream of events."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import events, on, work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Footer, Label, TabbedContent, TabPane

from tui import show
from tui.appliance import Appliance, ApplianceError, RefusedError, TokenError, UnreachableError
from tui.calls import Document, get
from tui.collecting import collect_in_quiet
from tui.dialogs.command import CommandDialog
from tui.dialogs.help import HelpDialog
from tui.dialogs.login import LoginDialog
from tui.dialogs.too_small import TooSmall
from tui.names import Names
from tui.palette import ConsoleCommands
from tui.pane import Pane
from tui.panes.events import EventsPane
from tui.panes.health import HealthPane
from tui.panes.leases import LeasesPane
from tui.panes.pool import PoolPane
from tui.panes.runs import RunsPane
from tui.panes.settings import SettingsPane
from tui.panes.vcenter import VcenterPane
from tui.profile import Profile, ProfileError, remember
from tui.themes import NIGHT, NO_COLOUR, THEMES

SMALLEST = (80, 24)
RETRY_S = (1.0, 2.0, 4.0, 8.0)
PANES: tuple[type[Pane], ...] = (PoolPane, VcenterPane, RunsPane, LeasesPane, HealthPane, EventsPane, SettingsPane)


class ConsoleApp(App[int]):
    """`gpuferry console`."""

    TITLE = "gpuferry"
    CSS_PATH = Path(__file__).with_name("console.tcss")
    COMMANDS = App.COMMANDS | {ConsoleCommands}
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - declared so by Textual
        (0, "-narrow"),
        (120, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012 - declared so by Textual
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"tab({number - 1})", show=False) for number in range(1, len(PANES) + 1)),
        Binding("y", "copy_command", "Copy as command"),
        Binding("right_square_bracket,left_square_bracket", "next_part", "Next list", key_display="]", show=False),
        Binding("f5,r", "read_again", "Read again", show=False),
        Binding("f1,question_mark", "help", "Help", key_display="?"),
        Binding("ctrl+t", "next_theme", "Theme", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, profile: Profile, *, remember_profile: bool = False, own_process: bool = False) -> None:
        """`own_process`: nothing else is done in it, so that the console may say when garbage is collected."""
        super().__init__()
        self.profile = profile
        self._remember = remember_profile
        self._keeps_theme = remember_profile
        self._appliance: Appliance | None = None
        self.names = Names()
        self.about: Document = {}
        self.identity: Document = {}
        self.connected = False
        self.trouble = "connecting…"
        self.copied = ""
        """What was copied last."""
        self._last_event: int | None = None
        self.streams = 0
        """How often the stream of events was opened."""
        self.pressed_at = time.monotonic()
        """When a key or the mouse was last used."""
        self._own_process = own_process

    # Screens

    def compose(self) -> ComposeResult:
        with Horizontal(id="status"):
            yield Label(" gpuferry ", id="brand")
            yield Label("", id="where")
            yield Label("", id="link")
            yield Label("", id="who")
        with TabbedContent(id="tabs"):
            for number, pane in enumerate(PANES, 1):
                with TabPane(f"{number} {pane.TITLE}", id=f"tab-{number - 1}"):
                    if number == 1:
                        yield pane()  # the others are made when they are first looked at
        yield Footer(show_command_palette=True)

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        wanted = self.profile.theme or (NO_COLOUR.name if self.no_color else NIGHT.name)
        self.theme = wanted if wanted in self.available_themes else NIGHT.name
        self.theme_changed_signal.subscribe(self, self._theme_chosen)
        self._tell_status()
        if self._own_process:
            collect_in_quiet(self)
        if self.profile.complete:
            self.begin(self.profile)
        else:
            self.ask_for_login("")

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.InputEvent):
            self.pressed_at = time.monotonic()
        await super().on_event(event)

    def on_resize(self, event: events.Resize) -> None:
        small = event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1]
        shown = isinstance(self.screen, TooSmall)
        if small and not shown:
            self.push_screen(TooSmall(SMALLEST))
        elif not small and shown:
            self.pop_screen()

    # Connection

    @property
    def appliance(self) -> Appliance:
        if self._appliance is None:
            raise UnreachableError("no appliance is named yet")
        return self._appliance

    @property
    def ready(self) -> bool:
        return self._appliance is not None

    @property
    def scope(self) -> str:
        return str(self.identity.get("scope", "read"))

    @property
    def may_write(self) -> bool:
        return self.scope in ("operator", "admin")

    @property
    def tabs(self) -> tuple[type[Pane], ...]:
        """What each tab shows."""
        return PANES

    @property
    def panes(self) -> list[Pane]:
        return list(self.query(Pane))

    @property
    def current_pane(self) -> Pane | None:
        with suppress(Exception):
            active = self.query_one("#tabs", TabbedContent).active_pane
            return active.query_one(Pane) if active is not None else None
        return None

    def begin(self, profile: Profile) -> None:
        """Speak to this appliance from now on."""
        try:
            made = Appliance(profile)
        except ProfileError as wrong:
            self.ask_for_login(str(wrong))
            return
        self.profile, self._appliance = profile, made
        self._last_event = None
        self.live()

    @work
    async def ask_for_login(self, why: str) -> None:
        """Let the user name the appliance and a token; leaves the console when they will not."""
        if any(isinstance(screen, LoginDialog) for screen in self.screen_stack):
            return
        answer = await self.push_screen_wait(LoginDialog(self.profile, why))
        if answer is None:
            if self._appliance is None:
                self.exit(1)
            return
        self._remember = self._remember or answer.remembered
        self.begin(answer.profile)

    @work(exclusive=True, group="live")
    async def live(self) -> None:
        """Follow the appliance's events for as long as the console runs; come back after every break."""
        appliance = self.appliance
        failures = 0
        while True:
            try:
                self.identity = await appliance.send(get("/v1/whoami"))
                self.about = await appliance.send(get("/v1/appliance"))
                async for event in appliance.follow(self._last_event):
                    if not self.connected:
                        self._recovered()
                        failures = 0
                    if event is not None:
                        self._last_event = event.id
                        for pane in self.panes:
                            pane.heard(event)
                why = "the appliance ended the stream of events"
            except TokenError as refused:
                self._lost(str(refused))
                self.ask_for_login(f"The appliance does not accept this token: {refused}")
                return
            except RefusedError as refused:
                why = f"the appliance says: {refused}"
            except UnreachableError as failure:
                why = str(failure)
            self._lost(why)
            wait = RETRY_S[min(failures, len(RETRY_S) - 1)]
            failures += 1
            await asyncio.sleep(wait)

    def _recovered(self) -> None:
        self.connected, self.trouble = True, ""
        self.streams += 1
        if self._remember:
            self._remember = False
            with suppress(OSError):
                remember(self.profile)
        if self.streams > 1:
            self.notify("The connection is back; everything is read again.", title="Connected")
        self._tell_status()
        for pane in self.panes:
            pane.refresh_soon(0.01)

    def _lost(self, why: str) -> None:
        if self.connected:
            self.notify(why, title="Connection lost", severity="error")
        self.connected, self.trouble = False, why
        self._tell_status()

    def troubled(self, failure: ApplianceError, told: bool = False) -> None:
        """A call of a pane failed."""
        if isinstance(failure, TokenError):
            self._lost(str(failure))
            self.ask_for_login(f"The appliance does not accept this token: {failure}")
        elif isinstance(failure, RefusedError):
            if not told:
                self.notify(str(failure), title="Refused", severity="warning")
        else:
            self.trouble = str(failure)
            self._tell_status()

    def _tell_status(self) -> None:
        if not self.query("#status Label"):
            return  # being closed
        url = self.profile.url.removeprefix("https://") or "no appliance yet"
        self.query_one("#where", Label).update(Text(f" {url} "))
        link = self.query_one("#link", Label)
        if self.connected and not self.about.get("trouble"):
            link.update(Text("● live", style=self.colour("success")))
        elif self.connected:
            link.update(Text(f"▲ {self.about['trouble']}", style=self.colour("warning")))
        else:
            first = not self.streams and self.trouble == "connecting…"
            why = self.trouble.removeprefix(self.profile.url).lstrip(": ")  # which appliance stands beside it
            lost = "connecting" if first else f"not connected: {why}"
            link.update(Text(f"✖ {lost}", style=self.colour("error")))
        who = ""
        if self.identity:
            who = f"{self.identity['name']} · {self.scope}"
            if self.identity["expires_at"]:
                who += f" · {show.until(self.identity['expires_at'])} left"
            if not self.may_write:
                who += " · read-only"
        self.query_one("#who", Label).update(Text(f"{who} "))

    async def check_health(self, subject: str) -> None:
        """Have daemons and agents measure now."""
        call = replace(get("/v1/health/check", subject=subject), method="POST")
        try:
            asked = (await self.appliance.send(call))["asked"]
        except ApplianceError as failure:
            self.troubled(failure)
        else:
            self.notify(f"{asked} asked to measure now; their readings follow.", title="Health")

    async def learn(self, ids: Iterable[str]) -> None:
        """Have the names of these ids. May raise ApplianceError."""
        await self.names.learn(self.appliance, ids)

    # Looks

    def colour(self, name: str) -> str:
        """A colour of the theme as Rich understands it."""
        value = self.theme_variables.get(name, "") or "default"
        if value.startswith("ansi_"):
            return value.removeprefix("ansi_")
        return value.partition(" ")[0] if value.startswith("#") else "default"

    def _theme_chosen(self, theme: Any) -> None:
        if self._keeps_theme and self.connected and not self.no_color and theme.name != self.profile.theme:
            self.profile = replace(self.profile, theme=theme.name)
            with suppress(OSError):
                remember(self.profile)
        self._tell_status()
        for pane in self.panes:
            pane.refresh_soon(0.01)

    def action_next_theme(self) -> None:
        """The next of the console's own themes."""
        names = [each.name for each in THEMES]
        self.theme = names[(names.index(self.theme) + 1) % len(names)] if self.theme in names else names[0]

    # Tabs and keys

    def action_tab(self, number: int) -> None:
        self.query_one("#tabs", TabbedContent).active = f"tab-{number}"

    def action_next_part(self) -> None:
        """The next list of a tab that has several."""
        pane = self.current_pane
        for inner in pane.query(TabbedContent) if pane is not None else ():
            ids = [str(each.id) for each in inner.query(TabPane)]
            inner.active = ids[(ids.index(inner.active) + 1) % len(ids)]

    def go_to(self, pane: type[Pane]) -> None:
        """Show a tab."""
        self.action_tab(PANES.index(pane))

    def go_to_runs(self) -> None:
        """Show the runs, where what was started goes on."""
        self.go_to(RunsPane)

    @on(TabbedContent.TabActivated, "#tabs")
    async def _chosen(self, message: TabbedContent.TabActivated) -> None:
        if not message.pane.query(Pane):
            await message.pane.mount(PANES[int(str(message.pane.id).removeprefix("tab-"))]())
        pane = self.current_pane
        if pane is not None:
            pane.shown()
            self.call_after_refresh(self._focus, pane)

    def _focus(self, pane: Pane) -> None:
        # A focus in a tab that was left meanwhile would bring that tab back.
        if pane is self.current_pane and len(self.screen_stack) == 1:
            pane.focus_first()

    def action_read_again(self) -> None:
        pane = self.current_pane
        if pane is not None:
            pane.refresh_soon(0.01)

    def action_help(self) -> None:
        self.push_screen(HelpDialog())

    def copy(self, text: str) -> None:
        """Put a command on the terminal's clipboard, and show it for terminals that have none."""
        self.copied = text
        self.copy_to_clipboard(text)
        self.push_screen(CommandDialog(text))

    def action_copy_command(self) -> None:
        """The command that reads what is shown."""
        pane = self.current_pane
        call = pane.call_shown() if pane is not None else None
        if call is None:
            self.notify("Nothing is chosen here.", severity="warning")
        else:
            self.copy(call.commands(self.profile))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        yield from super().get_system_commands(screen)

    async def on_unmount(self) -> None:
        if self._appliance is not None:
            await self._appliance.close()


def plain_terminal() -> bool:
    """Whether the terminal is asked for no colours."""
    return "NO_COLOR" in os.environ
