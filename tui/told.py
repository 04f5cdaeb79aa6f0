"""What is told in places that change often, without laying out the whole screen for it each time."""

from __future__ import annotations

from rich.console import RenderableType
from textual.widget import Widget
from textual.widgets import Static


class Told(Static):
    """A text as wide as its place. Only a change of its height lays the screen out anew."""

    DEFAULT_CSS = "Told { width: 1fr; height: auto; }"

    def tell(self, content: RenderableType) -> None:
        """Show this from now on."""
        self.update(content, layout=False)
        size = self.size
        if not size.width or self.get_content_height(size, self.app.size, size.width) != size.height:
            self.refresh(layout=True)


def entitle(widget: Widget, title: str, subtitle: str) -> None:
    """The titles in a widget's border; it is drawn anew only when they are others."""
    if str(widget.border_title or "") != title:
        widget.border_title = title
    if str(widget.border_subtitle or "") != subtitle:
        widget.border_subtitle = subtitle
