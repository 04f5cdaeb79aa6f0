"""The tab Pool: the whole pool in four numbers with their recent past, the map of slices, and the queue."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Label

from tui import show
from tui.appliance import Event
from tui.calls import Call, Document, at, get
from tui.dialogs.drain import DrainDialog
from tui.dialogs.facts import FactsDialog
from tui.dialogs.server import ServerDialog
from tui.listing import Listing
from tui.pane import FilteredPane
from tui.pool_map import PoolMap
from tui.rows import Column
from tui.told import entitle

MOST_AT_ONCE = 48
OUTLINE_EVERY_S = 30.0


class Gauge(Vertical):
    """A number, what it means, and how it was lately."""

    DEFAULT_CSS = """
    Gauge { width: 1fr; height: 2; padding: 0 1; }
    Gauge > Label { width: 1fr; height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    Gauge > #past { color: $primary; }
    """

    def compose(self) -> ComposeResult:
        yield Label(id="now")
        yield Label(id="past")

    def put(self, title: str, value: str, past: list[float], most: float | None = None) -> None:
        self.query_one("#now", Label).update(Text.assemble((value, "bold"), " ", (title, "dim")), layout=False)
        line = show.spark(past, max(1, self.content_size.width), most or max(past, default=0.0) or 1.0)
        self.query_one("#past", Label).update(line, layout=False)


class PoolPane(FilteredPane):
    """Pool."""

    TITLE = "Pool"
    TOPICS = frozenset({"lease", "server", "gpu", "health"})
    LIVE_S = 5.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("d", "drain", "Drain"),
        Binding("escape", "clear_filter", show=False),
    ]
    DEFAULT_CSS = """
    PoolPane > #gauges { height: 2; }
    PoolPane > #words { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
    PoolPane.-filtering > #words { display: block; }
    PoolPane > #body { height: 1fr; layout: vertical; }
    PoolPane #queue { height: 6; }
    PoolPane.-nobody-waits #queue { display: none; }
    """

    def __init__(self) -> None:
        super().__init__(id="pool", classes="-nobody-waits")
        self._outline_at = -OUTLINE_EVERY_S

    def compose(self) -> ComposeResult:
        with Horizontal(id="gauges"):
            for name in ("memory", "use", "leases", "waiting"):
                yield Gauge(id=f"gauge-{name}")
        yield Input(placeholder="part of a server's or GPU's name; Esc clears", id="words", compact=True)
        with Vertical(id="body"):
            yield PoolMap(id="map")
            yield Listing(
                "Queue",
                [
                    Column("#", lambda each: str(each["position"] or "–"), width=3),
                    Column("Client", self._client),
                    Column("Wants", wanted),
                    Column("Waits", lambda each: show.ago(each["queued_at"])),
                    Column("Why", lambda each: each["reason"]),
                ],
                self._queue,
                empty="nobody waits",
                id="queue",
            )

    @property
    def map(self) -> PoolMap:
        return self.query_one("#map", PoolMap)

    @property
    def main(self) -> PoolMap:
        return self.map

    def _client(self, lease: Document) -> str:
        return self.console.names.of(lease["client_id"])

    async def _queue(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        call = get("/v1/leases", state="queued", words=words)
        items, following = await self.appliance.page(call, limit, cursor)
        await self.console.learn(each["client_id"] for each in items)
        return sorted(items, key=lambda each: each["position"] or 1 << 30), following

    async def load(self) -> None:
        now = time.monotonic()
        if now - self._outline_at > OUTLINE_EVERY_S:
            self._outline_at = now
            servers = await self.appliance.every(get("/v1/pool/servers", words=self.words))
            self.map.show_servers(servers)
            title = "Pool" + (f" with “{self.words}”" if self.words else "")
            entitle(self.map, title, str(self.map.border_subtitle or ""))
        visible = self.map.visible_servers()[:MOST_AT_ONCE]
        if visible:
            self.map.show_details(await self.appliance.send(get("/v1/pool/map", server=visible)))
        self._gauges(
            await self.appliance.send(get("/v1/appliance")), await self.appliance.send(get("/v1/pool/history"))
        )
        await self.query_one("#queue", Listing).refill()
        self.set_class(not self.query_one("#queue", Listing).documents, "-nobody-waits")

    def heard(self, event: Event) -> None:
        if event.topic in ("server", "gpu"):
            self._outline_at = -OUTLINE_EVERY_S
        super().heard(event)

    def _gauges(self, pool: Document, history: list[Document]) -> None:
        def gauge(name: str) -> Gauge:
            return self.query_one(f"#gauge-{name}", Gauge)

        memory, reserved = pool["memory_mib"], pool["reserved_mib"]
        part = reserved / memory if memory else 0.0
        leased = [100 * each["reserved_mib"] / each["memory_mib"] for each in history if each["memory_mib"]]
        gauge("memory").put(f"of {show.mib(memory)} leased", f"{part:.0%}", leased, 100.0)
        use = [each["utilisation"] for each in history if each["utilisation"] is not None]
        gauge("use").put(f"mean use of {pool['gpus']} GPUs", f"{use[-1]:.0f}%" if use else "–", use, 100.0)
        sessions = history[-1]["sessions"] if history else 0
        held = pool["leases"] - pool["waiting"]
        gauge("leases").put(f"leases, {sessions} sessions", str(held), [float(each["leases"]) for each in history])
        gauge("waiting").put("waiting", str(pool["waiting"]), [float(each["waiting"]) for each in history])

    @on(PoolMap.Wanted)
    async def _details(self, message: PoolMap.Wanted) -> None:
        message.stop()
        if self.console.ready:
            self.refresh_soon(0.05)

    @on(PoolMap.Opened)
    def _open(self, message: PoolMap.Opened) -> None:
        message.stop()
        self.console.push_screen(ServerDialog(message.server, message.gpu))

    @on(Listing.Opened)
    def _open_request(self, message: Listing.Opened) -> None:
        message.stop()
        if message.document is not None:
            call = Call("GET", at("leases", message.document["id"]))
            self.console.push_screen(FactsDialog("Waiting request", message.document, call))

    def words_changed(self) -> None:
        self._outline_at = -OUTLINE_EVERY_S
        super().words_changed()

    def action_drain(self) -> None:
        """Take the server under the cursor out of service, or put it back."""
        under = self.map.under_cursor
        if under is not None:
            self.console.push_screen(DrainDialog(under[0]["id"]))

    def call_shown(self) -> Call | None:
        under = self.map.under_cursor
        if under is None:
            return get("/v1/pool/servers")
        server, gpu = under
        if gpu is not None:
            return Call("GET", at("gpus", gpu["id"]), command="gpuferry list")
        return Call("GET", at("servers", server["id"]), command="gpuferry list")


def wanted(lease: Document) -> str:
    """What a request asks for: `2 × 8 GiB`, `1 × 50%`, `4 × whole`."""
    count = lease["gpus"]
    if lease["memory_mib"]:
        size: Any = show.mib(lease["memory_mib"])
    elif lease["fraction"]:
        size = f"{lease['fraction']:.0%}"
    else:
        size = "whole"
    return f"{count} × {size}"
