"""What a vCenter holds, as a tree: datacenters, clusters, hosts, their GPUs and VMs. Hosts are filled when opened.

Hosts with GPUs, and what a filter finds, stand open where that is little enough to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from tui import show
from tui.calls import Document

if TYPE_CHECKING:
    from tui.app import ConsoleApp

GPU_SIGNS = {
    "host unavailable": "away",
    "not capable": "failed",
    "vGPU": "warning",
    "off": "disabled",
    "on after reboot": "warning",
    "off after reboot": "warning",
    "ready": "ok",
    "held": "active",
    "in use": "active",
}


MOST_OPEN = 1000
"""Where hosts would hold more lines than this together, they stay closed until they are opened by hand."""


@dataclass(frozen=True)
class Item:
    """What a node stands for. `key` is the same for the same thing in the next inventory."""

    kind: str
    key: str
    vcenter: str
    document: Document


class InventoryTree(Tree[Item]):
    """`show_inventory` fills it; what is open and where the cursor is stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "open_node", "Open", show=False),
        Binding("left,h", "close_node", "Close", show=False),
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
    ]

    def __init__(self, **more: Any) -> None:
        super().__init__("vCenters", **more)
        self.show_root = False
        self.guide_depth = 2
        self.marked: dict[str, Item] = {}
        self._structure: tuple[str, ...] = ()
        self._shown: tuple[object, ...] = ()
        self._opens_hosts = True
        self.known: dict[str, tuple[Document, Document | None, str]] = {}
        self.by_hand: dict[str, bool] = {}
        """What somebody has opened, or closed."""
        self.by_key: dict[str, TreeNode[Item]] = {}
        self._words = ""

    @property
    def console(self) -> ConsoleApp:
        return cast("ConsoleApp", self.app)

    @property
    def item(self) -> Item | None:
        node = self.cursor_node
        return node.data if node is not None else None

    def inventory_of(self, vcenter: str) -> Document | None:
        known = self.known.get(vcenter)
        return known[1] if known else None

    def items(self, kind: str) -> list[Item]:
        return [node.data for node in self.by_key.values() if node.data is not None and node.data.kind == kind]

    # Filling

    def show_inventory(self, vcenters: list[tuple[Document, Document | None, str]], words: str) -> None:
        """vCenters with their inventories, or why there is none; `words` keeps what has them in its name."""
        before = self._shown
        self._shown = (vcenters, words, self.console.theme)
        if self._shown == before:
            return
        self.known = {each["id"]: (each, inventory, why) for each, inventory, why in vcenters}
        self._words = words.casefold()
        self._mark_anew()
        plan = self._plan()
        structure = tuple(key for key, *_ in plan)
        if structure == self._structure:
            for key, _, item, label in plan:
                node = self.by_key[key]
                node.data = item
                if node.label != label:  # in its colours, too
                    node.set_label(label)
            return
        at = self.item.key if self.item else None
        line, top = self.cursor_line, self.scroll_offset.y
        self._structure = structure
        self.clear()
        self.by_key = {}
        for key, parent, item, label in plan:
            above = self.by_key[parent] if parent else self.root
            leaf = item.kind in ("gpu", "vm", "note")
            self.by_key[key] = above.add(label, item, expand=self._is_open(item), allow_expand=not leaf)
        self.root.expand()
        # At once, not after the next refresh: a key that comes in between shall meet what the user saw under the
        # cursor. `last_line` makes the tree number its lines.
        last = self.last_line
        node_before = self.by_key.get(at or "")
        if node_before is not None:
            self.move_cursor(node_before)
        elif self.by_key:
            self.cursor_line = max(0, min(line, last))
        self.scroll_to(y=top, animate=False)

    def _is_open(self, item: Item) -> bool:
        if item.kind != "host":
            return self.by_hand.get(item.key, True)
        return self.by_hand.get(item.key, self._opens_hosts and (bool(self._words) or bool(item.document["gpus"])))

    @on(Tree.NodeExpanded)
    @on(Tree.NodeCollapsed)
    def _remember(self, message: Tree.NodeExpanded[Item] | Tree.NodeCollapsed[Item]) -> None:
        """What was opened or closed by hand stays so; a host is filled when it is opened."""
        item = message.node.data
        if item is None:
            return
        opened = isinstance(message, Tree.NodeExpanded)
        if opened == self._is_open(item):
            return
        self.by_hand[item.key] = opened
        if self.by_key.get(item.key) is not message.node:
            self._shown = ()  # the tree was built anew meanwhile: it follows with the next inventory
        elif item.kind == "host":
            if opened:
                message.node.remove_children()
                for key, _, inner, label in self._inside(item):
                    self.by_key[key] = message.node.add(label, inner, allow_expand=False)
            self._structure = tuple(key for key, *_ in self._plan())

    def _plan(self) -> list[tuple[str, str, Item, Text]]:
        """(key, parent's key, item, label) of every node, from top to bottom."""
        made: list[tuple[str, str, Item, Text]] = []

        def add(kind: str, key: str, parent: str, vcenter: str, document: Document, label: Text) -> None:
            made.append((key, parent, Item(kind, key, vcenter, document), label))

        self._opens_hosts = self._lines_inside() <= MOST_OPEN
        for id_, (vcenter, inventory, why) in self.known.items():
            label = Text.assemble(("vCenter ", "dim"), (vcenter["name"], "bold"))
            if inventory is None:
                label.append(f"  {why}", self.console.colour("warning"))
            elif inventory["stale"]:
                label.append(f"  away; as of {show.clock(inventory['at'])}", self.console.colour("warning"))
            add("vcenter", id_, "", id_, vcenter, label)
            if inventory is not None:
                self._plan_hosts(id_, inventory, add)
        return made

    def _plan_hosts(self, id_: str, inventory: Document, add: Any) -> None:
        seen: set[str] = set()
        order = sorted(inventory["hosts"], key=lambda each: (each["datacenter"], each["cluster"], each["name"]))
        placed = self._placed(inventory)
        found = [(host, whole, vms) for host in order for whole, vms in [self._found(host, placed)] if whole or vms]
        for host, _, vms in found:
            parent = id_
            for kind in ("datacenter", "cluster"):
                if not host[kind]:
                    continue
                key = f"{parent}/{kind} {host[kind]}"
                if key not in seen:
                    seen.add(key)
                    label = Text.assemble((f"{kind} ", "dim"), host[kind])
                    add(kind, key, parent, id_, {"name": host[kind]}, label)
                parent = key
            item = Item("host", f"{id_}/{host['id']}", id_, host)
            add("host", item.key, parent, id_, host, self._host(host, len(vms)))
            if self._is_open(item):
                for key, above, inner, label in self._inside(item, vms):
                    add(inner.kind, key, above, id_, inner.document, label)

    def _lines_inside(self) -> int:
        """How many lines there would be in the hosts that stand open by themselves."""
        count = 0
        for _, inventory, _ in self.known.values():
            placed = self._placed(inventory) if inventory else {}
            for host in inventory["hosts"] if inventory else ():
                if host["gpus"] or self._words:
                    whole, vms = self._found(host, placed)
                    count += len(vms) + (len(host["gpus"]) if whole or vms else 0)
        return count

    def _placed(self, inventory: Document) -> dict[str, list[Document]]:
        """The VMs of each host."""
        placed: dict[str, list[Document]] = {}
        for vm in inventory["vms"]:
            placed.setdefault(vm["host"], []).append(vm)
        return placed

    def _found(self, host: Document, placed: dict[str, list[Document]]) -> tuple[bool, list[Document]]:
        """Whether the filter finds a host itself, and which of its VMs are shown."""
        vms = placed.get(host["name"], [])
        whole = self._matches(host["name"]) or any(self._matches(gpu["name"]) for gpu in host["gpus"])
        return whole, [vm for vm in vms if whole or self._matches(vm["name"]) or self._matches(vm["role"])]

    def _inside(self, host: Item, vms: list[Document] | None = None) -> Iterator[tuple[str, str, Item, Text]]:
        """(key, parent's key, item, label) of a host's GPUs and VMs."""
        inventory = self.inventory_of(host.vcenter)
        if vms is None:
            vms = self._found(host.document, self._placed(inventory))[1] if inventory else []
        for gpu in host.document["gpus"]:
            key = f"{host.key}/{gpu['address']}"
            document = {**gpu, "host": host.document["name"]}
            yield key, host.key, Item("gpu", key, host.vcenter, document), self._gpu(gpu)
        for vm in sorted(vms, key=lambda each: (not each["role"], each["template"], each["name"])):
            key = f"{host.vcenter}/{vm['id']}"
            yield key, host.key, Item("vm", key, host.vcenter, vm), self._vm(vm, key)

    def _matches(self, name: str) -> bool:
        return self._words in name.casefold()

    def _state(self, state: str, text: str) -> Text:
        from tui.themes import sign

        mark, colour = sign(state)
        return Text(f"{mark} {text}", style=self.console.colour(colour))

    def _host(self, host: Document, vms: int) -> Text:
        if host["connection"] != "connected":
            state = self._state("away", host["connection"])
        elif host["maintenance"]:
            state = self._state("maintenance", "maintenance mode")
        elif host["power"] not in ("poweredOn", "powered-on", "on"):
            state = self._state("away", str(host["power"]))
        else:
            state = self._state("ok", "")
        label = Text.assemble(("host ", "dim"), (host["name"], "bold"), "  ", state)
        facts = []
        if host["gpus"]:
            facts.append(f"{len(host['gpus'])} GPUs")
        facts.append(f"{vms} VMs")
        if host["rdma_nics"]:
            facts.append("RDMA")
        if host.get("tag"):
            facts.append(f"tag {host['tag']}")
        return label.append(f"  {', '.join(facts)}", "dim")

    def _gpu(self, gpu: Document) -> Text:
        label = Text.assemble(("GPU ", "dim"), gpu["name"], "  ")
        label.append_text(self._state(GPU_SIGNS.get(gpu["state"], "unknown"), gpu["state"]))
        if gpu["holder"]:
            label.append(f"  {gpu['holder']}")
        elif gpu["next_step"]:
            label.append(f"  → {gpu['next_step']}", "dim")
        return label

    def _vm(self, vm: Document, key: str) -> Text:
        label = Text.assemble(("☑ " if key in self.marked else "", self.console.colour("accent")), ("VM ", "dim"))
        label.append(vm["name"])
        if vm["template"]:
            return label.append("  template", "dim")
        if vm["role"]:
            label.append(f"  {vm['role']}", self.console.colour("secondary"))
        on = vm["power"] in ("poweredOn", "powered-on", "on")
        label.append(f"  {vm['address'] or ('no address yet' if on else 'off')}", "dim")
        return label

    # Keys

    def key_space(self) -> None:
        """Mark a VM, to enable many clients at once."""
        item = self.item
        if item is not None and item.kind == "vm" and not item.document["template"]:
            if self.marked.pop(item.key, None) is None:
                self.marked[item.key] = item
            self.by_key[item.key].set_label(self._vm(item.document, item.key))
            self.action_cursor_down()

    def marked_items(self) -> list[Item]:
        return list(self.marked.values())

    def _mark_anew(self) -> None:
        """What is marked, as the inventories say of it now; what is gone is not marked any more."""
        now = {
            f"{id_}/{vm['id']}": Item("vm", f"{id_}/{vm['id']}", id_, vm)
            for id_, (_, inventory, _) in self.known.items()
            for vm in (inventory["vms"] if inventory and self.marked else ())
        }
        self.marked = {key: now[key] for key in self.marked if key in now}

    def action_open_node(self) -> None:
        node = self.cursor_node
        if node is not None and node.allow_expand and not node.is_expanded:
            node.expand()
        else:
            self.action_cursor_down()

    def action_close_node(self) -> None:
        node = self.cursor_node
        if node is None:
            return
        if node.allow_expand and node.is_expanded:
            node.collapse()
        elif node.parent is not None and node.parent is not self.root:
            self.move_cursor(node.parent)
