"""One GPU server: its facts, GPUs and slices with their holders; leases are released and GPUs taken out from here."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Static

from tui import show
from tui.calls import Call, Document, at, change, get, remove
from tui.dialogs.confirm import ConfirmDialog
from tui.dialogs.dialog import Dialog
from tui.dialogs.drain import DrainDialog
from tui.listing import Table
from tui.themes import holder_colour, sign


class ServerDialog(Dialog[None]):
    """Slices of a server as a table."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "drain", "Drain"),
        Binding("x", "release", "Release lease"),
        Binding("t", "in_or_out", "GPU in/out"),
        Binding("y", "copy", "Copy as command"),
        Binding("f5", "read", "Read again"),
    ]
    DEFAULT_CSS = """
    ServerDialog #facts { height: auto; padding-bottom: 1; }
    ServerDialog DataTable { height: auto; max-height: 30; }
    """

    def __init__(self, server: str, gpu: str | None) -> None:
        super().__init__()
        self.server = server
        self.gpu = gpu
        self.document: Document | None = None
        self.at: list[tuple[Document, Document | None]] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="box -broad") as box:
            box.border_title = "GPU server"
            yield Static("…", id="facts")
            yield Table(cursor_type="row")
            yield Static(id="problem", markup=False)
            yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(DataTable).add_columns("GPU", "Memory", "Slice of", "Program", "Use", "State", "Lease")
        self.set_interval(5.0, self.action_read)
        self.action_read()

    @work(exclusive=True)
    async def action_read(self) -> None:
        worked, found = await self.send(get("/v1/pool/map", server=[self.server]))
        if not worked:
            return
        if not found:
            self.problem("This server is not there any more.")
            return
        self.document = found[0]
        self._show(found[0])

    def _show(self, document: Document) -> None:
        self.query_one(".box", Vertical).border_title = document["name"]
        state = "away" if document["state"] == "active" and not document["connected"] else document["state"]
        mark, colour = sign(state)
        facts = Text.assemble((f"{mark} {state}", self.console.colour(colour)), f"   data plane {document['address']}")
        if document["host"]:
            facts.append(f"   on host {document['host']}")
        if document["drain_deadline"]:
            facts.append(f"   leases end in {show.until(document['drain_deadline'])}")
        for each in document["bad"]:
            facts.append(f"\n{sign(each['state'])[0]} {each['check']}: {each['value']}", self.console.colour("warning"))
        self.query_one("#facts", Static).update(facts)
        table = self.query_one(DataTable)
        row = table.cursor_row
        first = not self.at
        table.clear()
        self.at = []
        for gpu in document["gpus"]:
            mark, colour = sign(gpu["state"])
            model = gpu["name"].removeprefix("NVIDIA ")
            name = Text(f"{mark} {gpu['ordinal']} {model}", style=self.console.colour(colour))
            memory = f"{show.mib(gpu['reserved_mib'])} of {show.mib(gpu['memory_mib'])}"
            use = "–" if gpu["utilisation"] is None else f"{gpu['utilisation']:.0f}%"
            if gpu["temperature_c"] is not None:
                use += f" {gpu['temperature_c']:.0f} °C"
            if gpu["power_w"] is not None:
                use += f" {gpu['power_w']:.0f} W"
            if first and gpu["id"] == self.gpu:
                row = len(self.at)
            notes = gpu["state_reason"] or ", ".join(f"{each['check']} {each['value']}" for each in gpu["bad"])
            table.add_row(name, memory, "", Text(notes[:26], style="dim"), use, gpu["state"], "")
            self.at.append((gpu, None))
            for held in gpu["slices"]:
                colour = holder_colour(held["client"], self.console.theme)
                share = f", {held['compute'] / 10:.0f}% compute" if held["compute"] else ""
                table.add_row(
                    "",
                    f"  {show.mib(held['memory_mib'])}{share}",
                    Text.assemble(("▊ ", colour), held["client"]),
                    show.program(held["program"], 26),
                    "",
                    held["state"],
                    held["lease_id"],
                )
                self.at.append((gpu, held))
        if self.at:
            table.move_cursor(row=min(row, len(self.at) - 1))

    @property
    def chosen(self) -> tuple[Document, Document | None] | None:
        row = self.query_one(DataTable).cursor_row
        return self.at[row] if 0 <= row < len(self.at) else None

    def action_drain(self) -> None:
        self.console.push_screen(DrainDialog(self.server), self._done)

    def _done(self, done: bool | None) -> None:
        if done:
            self.action_read()

    @work
    async def action_release(self) -> None:
        chosen = self.chosen
        if chosen is None or chosen[1] is None:
            self.problem("Put the cursor on a slice: its lease can be released.")
            return
        lease = chosen[1]
        worked, document = await self.send(Call("GET", at("leases", lease["lease_id"])))
        if worked and await self.console.push_screen_wait(release_dialog(document, lease["client"])):
            self.action_read()

    @work
    async def action_in_or_out(self) -> None:
        chosen = self.chosen
        if chosen is None:
            return
        worked, gpu = await self.send(Call("GET", at("gpus", chosen[0]["id"])))
        if not worked:
            return
        state = "ready" if gpu["state"] != "ready" else "disabled"
        text = {
            "ready": f"{gpu['name']} ({gpu['id']}) is trusted again: new leases may be placed on it.",
            "disabled": f"No new leases are placed on {gpu['name']} ({gpu['id']}). Those on it stay.",
        }[state]
        call = change(gpu, at("gpus", gpu["id"]), {"state": state, "reason": "" if state == "ready" else "by hand"})
        label = "Trust it again" if state == "ready" else "Take it out"
        if await self.console.push_screen_wait(ConfirmDialog("GPU", text, [call], label)):
            self.action_read()

    def action_copy(self) -> None:
        call = get("/v1/pool/map", server=[self.server])
        self.console.copy(call.commands(self.console.profile))


def release_dialog(lease: Document, client: str) -> ConfirmDialog:
    """Asks whether a lease shall end."""
    what = f"{lease['gpus']} GPU slice{'s' if lease['gpus'] > 1 else ''}"
    text = (
        f"The lease {lease['id']} of {client} ends: its programs lose their GPUs ({what}), "
        f"and the memory returns to the pool." + (f"\nIt runs: {lease['program']}" if lease["program"] else "")
    )
    call = remove(lease, at("leases", lease["id"]), command="" if lease["keeper"] != "agent" else "gpuferry release")
    return ConfirmDialog("Release a lease", text, [call], "Release", danger=True)
