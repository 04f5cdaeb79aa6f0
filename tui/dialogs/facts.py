"""Everything that is known of one thing, a line for each field."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from tui.calls import Call, Document
from tui.dialogs.dialog import Dialog


class FactsDialog(Dialog[None]):
    """A document of the API, as people read it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,q", "leave", "Leave"),
        Binding("y", "copy", "Copy as command"),
    ]
    DEFAULT_CSS = """
    FactsDialog VerticalScroll { height: auto; max-height: 36; }
    """

    def __init__(self, title: str, document: Document, call: Call | None) -> None:
        super().__init__()
        self.heading = title
        self.document = document
        self.call = call

    def compose(self) -> ComposeResult:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), expand=True)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold", ratio=1)
        for name, value in self.document.items():
            if isinstance(value, list):
                text = ", ".join(map(str, value))
            elif value is None:
                text = "–"
            else:
                text = str(value)
            if name.endswith("_id") or name == "group_id":
                known = self.console.names.of(text)
                text = text if known == text else f"{known}  ({text})"
            table.add_row(name.replace("_", " "), Text(text or "–"))
        with Vertical(classes="box") as box:
            box.border_title = self.heading
            box.border_subtitle = "y copies as command, Esc leaves"
            with VerticalScroll():
                yield Static(table)

    def action_copy(self) -> None:
        if self.call is not None:
            self.console.copy(self.call.commands(self.console.profile))
