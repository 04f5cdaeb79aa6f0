"""The tab vCenter: hosts, GPUs and VMs with their state and next step, and what can be done with each."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, Tree

from tui import provisioning, show
from tui.appliance import ApplianceError, RefusedError
from tui.calls import Call, Document, at, get
from tui.dialogs.drain import DrainDialog
from tui.dialogs.form import Form
from tui.inventory_tree import InventoryTree, Item
from tui.pane import FilteredPane
from tui.told import Told, entitle


class VcenterPane(FilteredPane):
    """vCenter."""

    TITLE = "vCenter"
    TOPICS = frozenset({"run", "vcenter", "server", "client"})
    LIVE_S = 5.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("p", "act('passthrough')", "Passthrough"),
        Binding("n", "act('create')", "New server"),
        Binding("m", "act('pvrdma')", "PVRDMA"),
        Binding("e", "act('enable')", "Enable client"),
        Binding("d", "act('drain')", "Drain"),
        Binding("x", "act('remove')", "Take away"),
        Binding("t", "act('tag')", "Tag"),
        Binding("a", "act('add')", "Add vCenter"),
        Binding("escape", "clear_filter", show=False),
    ]
    DEFAULT_CSS = """
    VcenterPane > #words { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
    VcenterPane.-filtering > #words { display: block; }
    VcenterPane > #body { height: 1fr; layout: vertical; }
    VcenterPane #tree { height: 1fr; border: round $panel; border-title-color: $primary; padding: 0 1; }
    VcenterPane #tree:focus { border: round $primary; }
    VcenterPane #about { height: 7; border: round $panel; border-title-color: $primary; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="vcenter-pane")

    def compose(self) -> ComposeResult:
        yield Input(placeholder="part of a host's, GPU's or VM's name; Esc clears", id="words", compact=True)
        with Vertical(id="body"):
            tree = InventoryTree(id="tree")
            tree.border_title = "vCenter"
            yield tree
            with VerticalScroll(id="about", can_focus=False) as about:
                about.border_title = "State and next step"
                yield Told(id="facts")

    @property
    def tree_(self) -> InventoryTree:
        return self.query_one("#tree", InventoryTree)

    @property
    def main(self) -> InventoryTree:
        return self.tree_

    async def load(self) -> None:
        known: list[tuple[Document, Document | None, str]] = []
        for each in await self.appliance.every(get("/v1/vcenters")):
            try:
                call = get(at("vcenters", each["id"], "inventory"))
                known.append((each, await self.appliance.send_unless_known(call), ""))
            except RefusedError as refused:
                known.append((each, None, str(refused)))
        self.tree_.show_inventory(known, self.words)
        hosts = sum(len(inventory["hosts"]) for _, inventory, _ in known if inventory)
        gpus = sum(len(host["gpus"]) for _, inventory, _ in known if inventory for host in inventory["hosts"])
        told = f"{hosts} hosts, {gpus} GPUs" if known else "no vCenter yet: press a to add one"
        marked = f", {len(self.tree_.marked)} VMs marked" if self.tree_.marked else ""
        entitle(self.tree_, "vCenter", told + marked)
        self._explain()

    @on(Tree.NodeHighlighted)
    def _moved(self) -> None:
        self._explain()

    def _explain(self) -> None:
        item = self.tree_.item
        told = self.query_one("#facts", Told)
        about = self.query_one("#about", VerticalScroll)
        if item is None:
            told.tell("")
            return
        entitle(about, f"{'vCenter' if item.kind == 'vcenter' else item.kind} {item.document['name']}", "")
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        for name, value in self._facts(item):
            table.add_row(name, value)
        told.tell(table)

    def _facts(self, item: Item) -> list[tuple[str, str | Text]]:
        each = item.document
        if item.kind == "host":
            ready = sum(gpu["state"] == "ready" for gpu in each["gpus"])
            steps = sorted({gpu["next_step"] for gpu in each["gpus"] if gpu["next_step"]})
            return [
                (
                    "state",
                    f"{each['connection']}, power {each['power']}{', maintenance' if each['maintenance'] else ''}",
                ),
                ("GPUs", f"{len(each['gpus'])}, {ready} ready for a server VM" if each["gpus"] else "none"),
                ("RDMA", ", ".join(each["rdma_nics"]) or "no adapter"),
                ("next step", "; ".join(steps) or ("n creates a GPU server" if ready else "–")),
            ]
        if item.kind == "gpu":
            return [
                ("state", each["state"]),
                ("next step", each["next_step"] or "–"),
                ("memory", show.mib(each["memory_mib"])),
                ("address", each["address"]),
                ("held by", each["holder"] or "nobody"),
            ]
        if item.kind == "vm":
            step = {
                "gpu-server": "d drains it, x decommissions it, m adds PVRDMA",
                "client": "x disables it as a client",
            }.get(each["role"], "e makes it a client; Space marks several")
            return [
                ("state", f"{each['power']}, {each['address'] or 'no address'}"),
                ("role", each["role"] or "none"),
                ("size", f"{each['cpus']} CPUs, {show.mib(each['memory_mib'])}"),
                ("next step", "n makes a server from it" if each["template"] else step),
            ]
        if item.kind == "vcenter":
            return [("address", each["address"]), ("user", each["username"]), ("pinned", each["fingerprint"] or "no")]
        return [("name", each["name"])]

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return True

    @work
    async def action_act(self, what: str) -> None:
        """Open the form of an action for what the cursor is on, or say what it needs."""
        if what == "add":
            await self._open(provisioning.add_vcenter())
            return
        item = self.tree_.item
        inventory = self.tree_.inventory_of(item.vcenter) if item else None
        if item is None or inventory is None:
            self.console.notify("There is no inventory of a vCenter here yet.", severity="warning")
            return
        if what == "drain":
            await self._drain(item)
            return
        try:
            groups = await self.appliance.every(get("/v1/groups")) if what == "enable" else []
        except ApplianceError as failure:
            self.console.troubled(failure)
            return
        name = self.tree_.known[item.vcenter][0]["name"]
        form = provisioning.form(
            what, provisioning.Place(item, name, inventory, tuple(self.tree_.marked_items()), tuple(groups))
        )
        if isinstance(form, str):
            self.console.notify(form, severity="warning")
        else:
            await self._open(form)

    async def _open(self, form: Form) -> None:
        answers = await self.console.push_screen_wait(form)
        if answers is None:
            return
        self.tree_.marked.clear()
        runs = [each for each in answers if isinstance(each, dict) and "steps" in each]
        if runs:
            self.console.notify(f"{len(runs)} started: see the tab Runs.", title="Runs")
            self.console.go_to_runs()
        self.refresh_soon(0.01)

    async def _drain(self, item: Item) -> None:
        """The GPU server of the pool that is this VM."""
        if item.kind != "vm" or item.document["role"] != "gpu-server":
            self.console.notify("Put the cursor on a GPU server's VM to drain it.", severity="warning")
            return
        try:
            found: list[Document] = await self.appliance.every(get("/v1/servers", name=item.document["name"]))
        except ApplianceError as failure:
            self.console.troubled(failure)
            return
        exact = [each for each in found if each["name"] == item.document["name"]]
        if not exact:
            self.console.notify(f"{item.document['name']} is not in the pool.", severity="warning")
            return
        await self.console.push_screen_wait(DrainDialog(exact[0]["id"]))

    def call_shown(self) -> Call | None:
        item = self.tree_.item
        if item is None:
            return get("/v1/vcenters")
        name: Any = self.tree_.known[item.vcenter][0]
        return Call(
            "GET",
            at("vcenters", item.vcenter, "inventory"),
            command=f"gpuferry vcenter hosts --vcenter {name['address']} --user {name['username']}",
        )
