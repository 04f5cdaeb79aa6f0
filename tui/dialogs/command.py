"""Shows a command that was copied: terminals without OSC 52 have no clipboard that a program can reach."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from tui.dialogs.dialog import Dialog


class CommandDialog(Dialog[None]):
    """A command to copy."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,y,q", "leave", "Leave")]
    DEFAULT_CSS = """
    CommandDialog .box { width: 100; }
    CommandDialog TextArea { height: auto; max-height: 14; border: none; padding: 0; background: $panel; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = "The same as a command"
            yield TextArea(self.text, read_only=True, soft_wrap=True, show_line_numbers=False)
            yield Static(
                "It is on the clipboard, where the terminal lets programs reach it (OSC 52). Esc leaves.",
                classes="hint",
            )
