"""What a vCenter holds, as a tree: datacenters, clusters, hosts, their GPUs and VMs. Hosts are filled when opened."""

from __future__ import annotations

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
        self.marked: set[str] = set()
        self._structure: tuple[str, ...] = ()
        self.known: dict[str, tuple[Document, Document | None, str]] = {}
        self.flipped: set[str] = set()
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
        self.known = {each["id"]: (each, inventory, why) for each, inventory, why in vcenters}
        self._words = words.casefold()
        plan = self._plan()
        structure = tuple(key for key, *_ in plan)
        if structure == self._structure:
            for key, _, item, label in plan:
                node = self.by_key[key]
                node.data = item
                if str(node.label) != str(label):
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
        before = self.by_key.get(at or "")
        if before is not None:
            self.move_cursor(before)
        elif self.by_key:
            self.cursor_line = max(0, min(line, last))
        self.scroll_to(y=top, animate=False)

    def _is_open(self, item: Item) -> bool:
        if item.kind in ("vcenter", "datacenter", "cluster"):
            return item.key not in self.flipped
        return item.key in self.flipped or bool(self._words) or (item.kind == "host" and bool(item.document["gpus"]))

    @on(Tree.NodeExpanded)
    @on(Tree.NodeCollapsed)
    def _remember(self, message: Tree.NodeExpanded[Item] | Tree.NodeCollapsed[Item]) -> None:
        """Containers are open unless closed by hand, hosts the other way round."""
        item = message.node.data
        if item is None:
            return
        opened = isinstance(message, Tree.NodeExpanded)
        if opened == (item.kind in ("vcenter", "datacenter", "cluster")):
            self.flipped.discard(item.key)
        else:
            self.flipped.add(item.key)

    def _plan(self) -> list[tuple[str, str, Item, Text]]:
        """(key, parent's key, item, label) of every node, from top to bottom."""
        made: list[tuple[str, str, Item, Text]] = []

        def add(kind: str, key: str, parent: str, vcenter: str, document: Document, label: Text) -> None:
            made.append((key, parent, Item(kind, key, vcenter, document), label))

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
        placed: dict[str, list[Document]] = {}
        for vm in inventory["vms"]:
            placed.setdefault(vm["host"], []).append(vm)
        order = sorted(inventory["hosts"], key=lambda each: (each["datacenter"], each["cluster"], each["name"]))
        for host in order:
            vms = placed.get(host["name"], [])
            whole = self._matches(host["name"]) or any(self._matches(gpu["name"]) for gpu in host["gpus"])
            vms = [vm for vm in vms if whole or self._matches(vm["name"]) or self._matches(vm["role"])]
            if not whole and not vms:
                continue
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
            key = f"{id_}/{host['id']}"
            add("host", key, parent, id_, host, self._host(host, len(vms)))
            for gpu in host["gpus"]:
                add("gpu", f"{key}/{gpu['address']}", key, id_, {**gpu, "host": host["name"]}, self._gpu(gpu))
            for vm in sorted(vms, key=lambda each: (not each["role"], each["template"], each["name"])):
                vm_key = f"{id_}/{vm['id']}"
                add("vm", vm_key, key, id_, vm, self._vm(vm, vm_key))

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
            self.marked ^= {item.key}
            self.by_key[item.key].set_label(self._vm(item.document, item.key))
            self.action_cursor_down()

    def marked_items(self) -> list[Item]:
        return [item for item in self.items("vm") if item.key in self.marked]

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
