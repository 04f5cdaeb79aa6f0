"""Before anything is changed: what will happen, the command that does the same, and a button that does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.markup import escape
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Static

from tui.calls import Call
from tui.dialogs.dialog import Dialog


class ConfirmDialog(Dialog[bool]):
    """Sends `calls` one after another when confirmed; the result is True when all were taken."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy as command")]
    DEFAULT_CSS = """
    ConfirmDialog .command { color: $foreground 70%; background: $panel; padding: 0 1; margin-top: 1; height: auto; }
    ConfirmDialog VerticalScroll { height: auto; max-height: 14; }
    """

    def __init__(self, title: str, text: str, calls: Sequence[Call], label: str, *, danger: bool = False) -> None:
        super().__init__()
        self.heading = title
        self.text = text
        self.calls = list(calls)
        self.label = label
        self.danger = danger

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = self.heading
            with VerticalScroll(can_focus=False):
                yield Static(self.text, markup=False)
                commands = "\n".join(call.commands(self.console.profile) for call in self.calls[:3])
                more = f"\n… and {len(self.calls) - 3} more" if len(self.calls) > 3 else ""
                yield Static(commands + more, classes="command", markup=False)
            yield Static(id="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button(escape(self.label), id="yes", variant="error" if self.danger else "primary")
                yield Button("Leave it", id="no")

    def on_mount(self) -> None:
        self.query_one("#no" if self.danger else "#yes", Button).focus()
        if not self.console.may_write:
            self.query_one("#yes", Button).disabled = True
            self.problem(f"Your token only reads (scope {self.console.scope}): this needs scope operator or admin.")
            self.query_one("#no", Button).focus()

    @on(Button.Pressed, "#no")
    def _no(self) -> None:
        self.dismiss(False)

    @on(Button.Pressed, "#yes")
    def _yes(self) -> None:
        self.query_one("#yes", Button).disabled = True
        self._send()

    @work
    async def _send(self) -> None:
        while self.calls:
            worked, _ = await self.send(self.calls[0])
            if not worked:
                self.query_one("#yes", Button).disabled = False
                return
            self.calls.pop(0)
        self.dismiss(True)

    def action_copy(self) -> None:
        self.console.copy("\n".join(call.commands(self.console.profile) for call in self.calls))
