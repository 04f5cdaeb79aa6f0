"""The tab Events: what happened, newest first and live; and the audit log, who changed what."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.widgets import TabbedContent, TabPane

from tui import show
from tui.appliance import Event
from tui.calls import Call, Document, get
from tui.dialogs.facts import FactsDialog
from tui.listing import Listing
from tui.pane import PartsPane
from tui.rows import Column


class EventsPane(PartsPane):
    """Events and audit."""

    TITLE = "Events"
    PARTS = "books"
    DEFAULT_CSS = """
    EventsPane TabbedContent { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__(id="events-pane")

    def compose(self) -> ComposeResult:
        with TabbedContent(id="books"):
            with TabPane("Events", id="book-events"):
                yield Listing(
                    "Events",
                    [
                        Column("At", lambda each: show.clock(each["at"])),
                        Column("What", lambda each: each["kind"]),
                        Column("Of", lambda each: show.short(self.console.names.subject(each["subject"]))[:40]),
                        Column("Text", lambda each: each["text"][:120]),
                        Column("Trace", lambda each: self.dim(each["trace"]), wide=150),
                    ],
                    self._events,
                    empty="nothing happened yet",
                    id="events",
                )
            with TabPane("Audit", id="book-audit"):
                yield Listing(
                    "Audit log: every write, let through or not",
                    [
                        Column("At", lambda each: show.clock(each["at"])),
                        Column("Who", lambda each: show.short(each["actor"].partition(" (")[0])[:20]),
                        Column("Did", lambda each: each["action"][:36]),
                        Column("To", lambda each: show.short(self.console.names.subject(each["subject"]))[:50]),
                        Column(
                            "Status",
                            lambda each: self._status(each["status"]),
                        ),
                        Column("Trace", lambda each: self.dim(each["trace"]), wide=150),
                    ],
                    self._audit,
                    empty="nothing was changed yet",
                    id="audit",
                )

    def _status(self, status: int) -> Text:
        return self.state("ok" if status < 400 else "failed", str(status))

    def heard(self, event: Event) -> None:
        self.refresh_soon()

    async def _events(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        return await self._read("/v1/events", words, limit, cursor)

    async def _audit(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        return await self._read("/v1/audit", words, limit, cursor)

    async def _read(self, path: str, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        items, following = await self.appliance.page(get(path, words=words), limit, cursor)
        subjects = (part for each in items for part in each["subject"].split("/"))
        await self.console.learn(each for each in subjects if each.startswith(("server-", "client-", "group-")))
        return items, following

    async def load(self) -> None:
        if self.part == "audit" and self.console.scope != "admin":
            self.listing.say_empty(f"the audit log needs a token of scope admin; yours has {self.console.scope}")
            return
        await super().load()

    @on(Listing.Opened)
    def _open(self, message: Listing.Opened) -> None:
        message.stop()
        if message.document is not None:
            title = "Event" if message.listing.id == "events" else "Audit"
            self.console.push_screen(FactsDialog(title, message.document, self.call_shown()))

    def call_shown(self) -> Call | None:
        return get(f"/v1/{self.listing.id}", words=self.listing.words)
