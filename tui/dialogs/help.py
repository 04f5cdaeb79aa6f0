"""Help: keys, the words of the product, signs."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Markdown

from tui.dialogs.dialog import Dialog
from tui.words import help_text


class HelpDialog(Dialog[None]):
    """A page to scroll."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,f1,question_mark", "leave", "Leave")]
    DEFAULT_CSS = """
    HelpDialog .box { width: 92; height: 92%; }
    HelpDialog VerticalScroll { height: 1fr; }
    HelpDialog Markdown { padding: 0 1; background: $surface; }
    """

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = "Help"
            box.border_subtitle = "Esc leaves"
            with VerticalScroll():
                yield Markdown(help_text())

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
