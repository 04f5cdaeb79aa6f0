"""The tab Leases: leases, the sessions that use them, and the clients that hold them, with quotas and priorities."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import TabbedContent, TabPane

from tui import show
from tui.appliance import ApplianceError
from tui.calls import Call, Document, at, get
from tui.dialogs.client import ClientDialog
from tui.dialogs.confirm import ConfirmDialog
from tui.dialogs.facts import FactsDialog
from tui.dialogs.server import release_dialog
from tui.listing import Listing
from tui.pane import PartsPane
from tui.panes.pool import wanted
from tui.rows import Column
from tui.themes import holder_colour

LIVE_STATES = ["queued", "granted", "active"]


class LeasesPane(PartsPane):
    """Clients and leases."""

    TITLE = "Leases"
    PARTS = "kinds"
    TOPICS = frozenset({"lease", "client"})
    LIVE_S = 5.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "release", "Release"),
        Binding("e", "edit", "Quotas"),
        Binding("a", "all", "Ended too"),
        Binding("R", "revoke", "Revoke client", key_display="R"),
    ]
    DEFAULT_CSS = """
    LeasesPane TabbedContent { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__(id="leases-pane")
        self.ended_too = False

    def compose(self) -> ComposeResult:
        with TabbedContent(id="kinds"):
            with TabPane("Leases", id="kind-leases"):
                yield Listing(
                    "Leases",
                    [
                        Column("State", lambda each: self.state(each["state"])),
                        Column("Client", self._client),
                        Column("Holds", wanted),
                        Column("Since", lambda each: show.ago(each["granted_at"] or each["queued_at"])),
                        Column("Ends in", lambda each: show.until(each["expires_at"]), wide=110),
                        Column("Prio", lambda each: str(each["priority"]), wide=100),
                        Column("Program", lambda each: show.program(each["program"], 40) or "–"),
                        Column("Why", lambda each: each["reason"][:60], wide=100),
                        Column("Where", lambda each: " ".join(each["filters"])[:40], wide=140),
                        Column("Lease", lambda each: self.dim(each["id"]), wide=170),
                    ],
                    self._leases,
                    empty="no leases",
                    marks=True,
                    id="leases",
                )
            with TabPane("Sessions", id="kind-sessions"):
                yield Listing(
                    "Sessions",
                    [
                        Column("Client", lambda each: self._holder(each["client"])),
                        Column("Server", lambda each: each["server"]),
                        Column("N", lambda each: str(each["sessions"])),
                        Column("Calls/s", lambda each: show.amount(each["calls_s"])),
                        Column("Waits/s", lambda each: show.amount(each["round_trips_s"])),
                        Column("Bytes/s", lambda each: show.size(each["bytes_s"])),
                        Column("Memory", lambda each: show.mib(each["memory_mib"])),
                        Column("Idle", lambda each: show.span(each["idle_s"])),
                        Column("Calls", lambda each: show.amount(each["calls"]), wide=110),
                        Column("Waits", lambda each: show.amount(each["round_trips"]), wide=110),
                        Column("Bytes", lambda each: show.size(each["bytes"]), wide=110),
                        Column("Program", lambda each: show.program(each["program"], 50) or "–", wide=90),
                    ],
                    self._sessions,
                    key=lambda each: f"{each['lease_id']} {each['server_id']}",
                    empty="no program is connected",
                    id="sessions",
                )
            with TabPane("Clients", id="kind-clients"):
                yield Listing(
                    "Clients",
                    [
                        Column("Client", lambda each: self._holder(each["name"])),
                        Column("State", self._client_state),
                        Column("Group", lambda each: self.console.names.of(each["group_id"])),
                        Column("≤ GPUs", lambda each: limit(each["max_gpus"])),
                        Column("≤ Memory", lambda each: limit(each["max_memory_mib"], show.mib)),
                        Column("≤ Leases", lambda each: limit(each["max_leases"])),
                        Column("Prio", lambda each: str(each["priority"])),
                        Column("Seen", lambda each: show.ago(each["seen_at"])),
                        Column("Host", lambda each: each["host"] or "–", wide=110),
                        Column("Version", lambda each: each["agent_version"] or "–", wide=120),
                        Column("Id", lambda each: self.dim(each["id"]), wide=150),
                    ],
                    self._clients,
                    empty="no client is enrolled",
                    id="clients",
                )

    def _client(self, lease: Document) -> Text:
        return self._holder(self.console.names.of(lease["client_id"]))

    def _holder(self, name: str) -> Text:
        return Text.assemble(("▊ ", holder_colour(name, self.console.theme)), name)

    def _client_state(self, client: Document) -> Text:
        return self.state("revoked") if client["revoked_at"] else self.state("ok", "enrolled")

    def _leases_call(self, words: str = "") -> Call:
        return get("/v1/leases", newest=True, state=None if self.ended_too else LIVE_STATES, words=words)

    async def _leases(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        items, following = await self.appliance.page(self._leases_call(words), limit, cursor)
        await self.console.learn(each["client_id"] for each in items)
        return items, following

    async def _sessions(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        return await self.appliance.page(get("/v1/sessions", words=words), limit, cursor)

    async def _clients(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        items, following = await self.appliance.page(get("/v1/clients", name=words), limit, cursor)
        await self.console.learn(each["group_id"] for each in items)
        return items, following

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        part = self.part if self.is_mounted else ""
        wanted_in = {"release": "leases", "all": "leases", "edit": "clients", "revoke": "clients"}
        return part == wanted_in[action] if action in wanted_in else True

    def action_all(self) -> None:
        """Show ended leases as well, or not."""
        self.ended_too = not self.ended_too
        self.query_one("#leases", Listing).begin_anew("Leases, ended too" if self.ended_too else "Leases")
        self.refresh_soon(0.01)

    @work
    async def action_release(self) -> None:
        listing = self.query_one("#leases", Listing)
        chosen = [each for each in listing.chosen_all if each["state"] != "ended"]
        if not chosen:
            return
        if len(chosen) == 1:
            dialog = release_dialog(chosen[0], self.console.names.of(chosen[0]["client_id"]))
        else:
            calls = [Call("DELETE", at("leases", each["id"]), match=f'"{each["revision"]}"') for each in chosen]
            text = f"{len(chosen)} leases end: their programs lose their GPUs, and the memory returns to the pool."
            dialog = ConfirmDialog("Release leases", text, calls, f"Release {len(chosen)}", danger=True)
        if await self.console.push_screen_wait(dialog):
            listing.marked.clear()
            self.refresh_soon(0.01)

    @work
    async def action_edit(self) -> None:
        chosen = self.query_one("#clients", Listing).chosen
        if chosen is None:
            return
        try:
            groups = await self.appliance.every(get("/v1/groups"))
        except ApplianceError as failure:
            self.console.troubled(failure)
            return
        if await self.console.push_screen_wait(ClientDialog(chosen, groups)):
            self.refresh_soon(0.01)

    @work
    async def action_revoke(self) -> None:
        chosen = self.query_one("#clients", Listing).chosen
        if chosen is None or chosen["revoked_at"]:
            return
        text = f"The key of {chosen['name']} is revoked: its leases end; it gets nowhere until it is enrolled again."
        call = Call("DELETE", at("clients", chosen["id"]), match=f'"{chosen["revision"]}"')
        if await self.console.push_screen_wait(ConfirmDialog("Revoke a client", text, [call], "Revoke", danger=True)):
            self.refresh_soon(0.01)

    @on(Listing.Opened)
    def _open(self, message: Listing.Opened) -> None:
        message.stop()
        if message.document is not None:
            title = {"leases": "Lease", "sessions": "Sessions of a lease", "clients": "Client"}[str(message.listing.id)]
            self.console.push_screen(FactsDialog(title, message.document, self.call_shown()))

    def call_shown(self) -> Call | None:
        listing = self.listing
        chosen = listing.chosen
        if listing.id == "sessions":
            return get("/v1/sessions", words=listing.words)
        if chosen is None:
            return (
                self._leases_call(listing.words) if listing.id == "leases" else get("/v1/clients", name=listing.words)
            )
        return Call("GET", at(str(listing.id), chosen["id"]))


def limit(value: int | None, form: object = str) -> str:
    """A quota; null is unlimited."""
    return "∞" if value is None else str(form(value))  # type: ignore[operator]
