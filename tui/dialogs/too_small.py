"""Says plainly that the terminal is too small, until it is not."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static


class TooSmall(ModalScreen[None]):
    """Covers everything; what is behind it stays as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "app.quit", "Quit")]
    DEFAULT_CSS = """
    TooSmall { align: center middle; background: $background; }
    TooSmall Static { width: 100%; text-align: center; }
    """

    def __init__(self, least: tuple[int, int]) -> None:
        super().__init__()
        self.least = least

    def compose(self) -> ComposeResult:
        yield Static(self._text(), markup=False)

    def _text(self) -> str:
        size = self.app.size
        width, height = self.least
        return (
            f"This terminal has {size.width}×{size.height} cells.\n"
            f"The console needs {width}×{height}.\nMake it larger, or press q."
        )

    def on_resize(self, event: events.Resize) -> None:
        self.query_one(Static).update(self._text())
