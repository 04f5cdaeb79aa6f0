"""The tab Health: every check's last result, failed ones first, each with its value, what it means and what to do."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll

from tui import show
from tui.calls import Call, Document, get
from tui.dialogs.support_bundle import SupportBundleDialog
from tui.listing import Listing
from tui.pane import Pane
from tui.rows import Column
from tui.themes import sign
from tui.told import Told

ORDER = ("failed", "warning", "unknown", "ok")


class HealthPane(Pane):
    """Health."""

    TITLE = "Health"
    TOPICS = frozenset({"health"})
    LIVE_S = 10.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "check", "Check again"),
        Binding("o", "only_bad", "Only what is wrong"),
        Binding("b", "bundle", "Support bundle"),
    ]
    DEFAULT_CSS = """
    HealthPane > #about { height: 7; border: round $panel; border-title-color: $primary; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="health-pane")
        self.only_bad = False

    def compose(self) -> ComposeResult:
        yield Listing(
            "Health checks",
            [
                Column("State", lambda each: self.state(each["state"])),
                Column("Of", lambda each: show.short(self.console.names.subject(each["subject"]))[:60]),
                Column("Check", lambda each: each["check"]),
                Column("Value", lambda each: each["value"][:40]),
                Column("Should be", lambda each: each["threshold"]),
                Column("Measured", lambda each: f"{show.ago(each['measured_at'])} ago", wide=100),
            ],
            self._readings,
            key=lambda each: f"{each['subject']} {each['check']}",
            empty="nothing was measured yet",
            id="readings",
        )
        with VerticalScroll(id="about", can_focus=False) as about:
            about.border_title = "What it means, what to do"
            yield Told(id="meaning")

    @property
    def listing(self) -> Listing:
        return self.query_one("#readings", Listing)

    async def _readings(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        """The states one after another; the cursor is `state cursor`."""
        state, _, inner = (cursor or ORDER[0]).partition(" ")
        states = ORDER[:3] if self.only_bad else ORDER
        items: list[Document] = []
        for current in states[states.index(state) :]:
            page, following = await self.appliance.page(
                get("/v1/health", state=current, words=words), limit - len(items), inner or None
            )
            inner = ""
            items += page
            await self.console.learn(part for each in page for part in each["subject"].split("/"))
            if following is not None:
                return items, f"{current} {following}"
            if len(items) >= limit and current != states[-1]:
                return items, states[states.index(current) + 1]
        return items, None

    async def load(self) -> None:
        await self.listing.refill()

    @on(Listing.Chosen)
    def _explain(self, message: Listing.Chosen) -> None:
        message.stop()
        each = message.document
        told = self.query_one("#meaning", Told)
        if each is None:
            told.tell("")
            return
        mark, colour = sign(each["state"])
        told.tell(
            Text.assemble(
                (f"{mark} {each['check']} is {each['value']}", f"bold {self.console.colour(colour)}"),
                f", should be {each['threshold']}\n",
                f"{each['meaning']}\n",
                ("→ ", self.console.colour("primary")),
                each["remedy"],
            )
        )

    def action_only_bad(self) -> None:
        """Leave out what is ok, or show it again."""
        self.only_bad = not self.only_bad
        self.listing.begin_anew("What is wrong" if self.only_bad else "Health checks")
        self.refresh_soon(0.01)

    @work
    async def action_check(self) -> None:
        """Have everything measured again now."""
        chosen = self.listing.chosen
        await self.console.check_health(chosen["subject"].partition("/")[0] if chosen else "")

    def action_bundle(self) -> None:
        self.console.push_screen(SupportBundleDialog())

    def call_shown(self) -> Call | None:
        chosen = self.listing.chosen
        return get("/v1/health", subject=chosen["subject"] if chosen else None, words=self.listing.words)

    def focus_first(self) -> None:
        self.listing.rows.focus()
