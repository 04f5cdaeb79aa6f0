"""The tab Settings: the site's settings, groups, tokens, enrolment tickets, vCenters, SSH host keys, certificates."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import TabbedContent, TabPane

from tui import administration, show
from tui.calls import Call, Document, at, get
from tui.dialogs.facts import FactsDialog
from tui.listing import Listing, Source
from tui.pane import PartsPane
from tui.rows import Column
from tui.told import Told

PATHS = {
    "settings": "/v1/settings",
    "groups": "/v1/groups",
    "tokens": "/v1/tokens",
    "enrolments": "/v1/enrolments",
    "vcenters": "/v1/vcenters",
    "host-keys": "/v1/host-keys",
    "certificates": "/v1/certificates",
}
ADMINS_ONLY = ("tokens", "enrolments")


def having(documents: list[Document], words: str) -> list[Document]:
    """Those that say the words in any of their values, capitals or not."""
    part = words.casefold()
    return [each for each in documents if part in " ".join(map(str, each.values())).casefold()]


class SettingsPane(PartsPane):
    """Settings."""

    TITLE = "Settings"
    PARTS = "rooms"
    TOPICS = frozenset({"host-key", "client", "group"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "edit", "Edit"),
        Binding("n", "new", "New"),
        Binding("x", "remove", "Remove"),
        Binding("c", "confirm_key", "Confirm key"),
    ]
    DEFAULT_CSS = """
    SettingsPane TabbedContent { height: 1fr; }
    SettingsPane > #about { height: 4; padding: 0 2; color: $foreground 75%; }
    """

    def __init__(self) -> None:
        super().__init__(id="settings-pane")
        self.meanings: dict[str, Document] = {}
        """What the appliance's own API description says of each setting."""
        self._etag = ""

    def compose(self) -> ComposeResult:
        with TabbedContent(id="rooms"):
            for name, title, listing in self._listings():
                with TabPane(title, id=f"room-{name}"):
                    yield listing
        with VerticalScroll(id="about", can_focus=False):
            yield Told(id="meaning", markup=False)

    def _listings(self) -> list[tuple[str, str, Listing]]:
        def made(name: str, title: str, columns: list[Column], **more: Any) -> tuple[str, str, Listing]:
            return name, title, Listing(title, columns, more.pop("source", self._source(name)), id=name, **more)

        return [
            made(
                "settings",
                "Site",
                [
                    Column("Setting", lambda each: each["name"].replace("_", " ")),
                    Column("Value", self._value),
                    Column("Default", lambda each: self.dim(str(each["default"]))),
                    Column("Meaning", lambda each: each["meaning"].replace("\n", " ")[:90]),
                ],
                source=self._settings,
                key=lambda each: each["name"],
            ),
            made(
                "groups",
                "Groups",
                [
                    Column("Group", lambda each: each["name"]),
                    Column("Weight", lambda each: f"{each['weight']:g}"),
                    Column("Prio", lambda each: str(each["priority"])),
                    Column("≤ GPUs", lambda each: quota(each["max_gpus"])),
                    Column("≤ Memory", lambda each: quota(each["max_memory_mib"], show.mib)),
                    Column("≤ Leases", lambda each: quota(each["max_leases"])),
                    Column("≤ Time", lambda each: quota(each["max_lease_s"], show.span)),
                    Column("≤ Idle", lambda each: quota(each["idle_after_s"], show.span)),
                ],
            ),
            made(
                "tokens",
                "Tokens",
                [
                    Column("State", self._token_state),
                    Column("Token", lambda each: each["name"]),
                    Column("Scope", lambda each: each["scope"]),
                    Column("Ends in", lambda each: show.until(each["expires_at"])),
                    Column("Made", lambda each: show.clock(each["created_at"])),
                    Column("Client", lambda each: self.console.names.of(each["client_id"] or "–"), wide=100),
                    Column("Id", lambda each: self.dim(each["id"]), wide=130),
                ],
                empty="no tokens",
            ),
            made(
                "enrolments",
                "Enrolment",
                [
                    Column("State", self._ticket_state),
                    Column("For a", lambda each: each["role"]),
                    Column("Name", lambda each: each["name"] or "any"),
                    Column("Ends in", lambda each: show.until(each["expires_at"])),
                    Column("Made", lambda each: show.clock(each["created_at"])),
                    Column("Used by", lambda each: self.console.names.of(each["used_by"] or "–"), wide=90),
                ],
                empty="no tickets: n makes one",
            ),
            made(
                "vcenters",
                "vCenters",
                [
                    Column("vCenter", lambda each: each["name"]),
                    Column("Address", lambda each: each["address"]),
                    Column("User", lambda each: each["username"]),
                    Column("Pinned", lambda each: each["fingerprint"][:17] + "…" if each["fingerprint"] else "no"),
                ],
                empty="no vCenter: n adds one",
            ),
            made(
                "host-keys",
                "Host keys",
                [
                    Column("State", self._key_state),
                    Column("Machine", lambda each: each["target"]),
                    Column("Fingerprint", lambda each: each["fingerprint"]),
                    Column("Confirmed by", lambda each: each["confirmed_by"] or "–"),
                    Column("Seen", lambda each: show.clock(each["seen_at"]), wide=110),
                ],
                empty="no machine was deployed to over SSH yet",
            ),
            made(
                "certificates",
                "Certificates",
                [
                    Column("State", self._certificate_state),
                    Column("Certificate", lambda each: each["role"]),
                    Column("For", lambda each: ", ".join(each["names"]) or each["subject"]),
                    Column("Ends in", lambda each: show.until(each["not_after"])),
                    Column("SHA-256", lambda each: self.dim(each["fingerprint"]), wide=120),
                ],
                key=lambda each: each["role"],
                empty="TLS is off",
                source=self._certificates,
            ),
        ]

    def _value(self, each: Document) -> Text:
        return Text(str(each["value"]), style="bold" if each["value"] != each["default"] else "")

    def _token_state(self, each: Document) -> Text:
        if each["revoked_at"]:
            return self.state("revoked")
        over = show.until(each["expires_at"]) == "over"
        return self.state("ended", "expired") if over else self.state("ok", "valid")

    def _ticket_state(self, each: Document) -> Text:
        if each["used_at"]:
            return self.state("done", "used")
        over = show.until(each["expires_at"]) == "over"
        return self.state("ended", "expired") if over else self.state("ok", "open")

    def _key_state(self, each: Document) -> Text:
        return self.state("ok", "trusted") if each["confirmed_at"] else self.state("warning", "confirm it")

    def _certificate_state(self, each: Document) -> Text:
        days = each["days_left"]
        return self.state("failed" if days < 0 else "warning" if days < 30 else "ok", f"{days} days")

    # Reading

    def _source(self, name: str) -> Source:
        async def read(words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
            items, following = await self.appliance.page(get(PATHS[name]), limit, cursor)
            await self.console.learn(each[key] for each in items for key in ("client_id", "used_by") if each.get(key))
            return having(items, words), following

        return read

    async def _settings(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        values: Document = await self.appliance.send(get("/v1/settings"))
        if not self.meanings:
            described = await self.appliance.send(get("/openapi.json"))
            self.meanings = described["components"]["schemas"]["Settings"]["properties"]
        items = []
        for name, value in values.items():
            about = self.meanings.get(name, {})
            items.append(
                {"name": name, "value": value, "default": about.get("default"), "meaning": about.get("description", "")}
            )
        part = words.casefold()
        shown = [(each, f"{each['name']} {each['name'].replace('_', ' ')} {each['meaning']}") for each in items]
        return [each for each, text in shown if part in text.casefold()], None

    async def _certificates(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        return having(await self.appliance.send(get("/v1/certificates")), words), None

    async def load(self) -> None:
        if self.part in ADMINS_ONLY and self.console.scope != "admin":
            self.listing.say_empty(f"this needs a token of scope admin; yours has {self.console.scope}")
            return
        await super().load()

    @on(Listing.Chosen)
    def _explain(self, message: Listing.Chosen) -> None:
        message.stop()
        each = message.document
        if message.listing.id != self.part:
            return
        about = self.meanings.get(each["name"], {}) if each and self.part == "settings" else {}
        text = administration.ABOUT[self.part]
        if about:
            bounds = [
                f"{word} {about[key]:g}"
                for key, word in (("minimum", "at least"), ("maximum", "at most"))
                if key in about
            ]
            text = f"{about.get('description', '')} {'; '.join(bounds)}"
        self.query_one("#meaning", Told).tell(text)

    # Changing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        room = self.part if self.is_mounted else ""
        rooms = {
            "edit": ("settings", "groups", "vcenters"),
            "new": ("groups", "tokens", "enrolments", "vcenters"),
            "remove": ("groups", "tokens", "vcenters", "host-keys"),
            "confirm_key": ("host-keys",),
        }
        return room in rooms[action] if action in rooms else True

    def _ask(self, dialog: ModalScreen[Any] | None) -> None:
        if dialog is not None:
            self.console.push_screen(dialog, self._asked)

    def _asked(self, answer: Any) -> None:
        if answer:
            self.refresh_soon(0.01)

    def action_edit(self) -> None:
        chosen = self.listing.chosen
        if chosen is not None:
            about = self.meanings.get(chosen["name"], {})
            self._ask(administration.edit(self.part, chosen, about))

    def action_new(self) -> None:
        self._ask(administration.new(self.part))

    def action_remove(self) -> None:
        chosen = self.listing.chosen
        if chosen is not None:
            self._ask(administration.remove_dialog(self.part, chosen))

    def action_confirm_key(self) -> None:
        chosen = self.listing.chosen
        if chosen is not None and not chosen["confirmed_at"]:
            self._ask(administration.confirm_key(chosen))

    @on(Listing.Opened)
    def _open(self, message: Listing.Opened) -> None:
        message.stop()
        if message.document is None:
            return
        if self.part == "settings":
            self.action_edit()
        else:
            self.console.push_screen(FactsDialog(message.listing.title, message.document, self.call_shown()))

    def call_shown(self) -> Call | None:
        chosen = self.listing.chosen
        if chosen is None or self.part in ("settings", "certificates", "enrolments", "host-keys"):
            return get(PATHS[self.part])
        return Call("GET", at(self.part, chosen["id"]))


def quota(value: float | None, form: Any = str) -> str:
    """A limit; null is none."""
    return "∞" if value is None else str(form(value))
