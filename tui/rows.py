"""A table of which only the visible lines exist: rows are known by their keys, cells are made when a line is drawn.

Textual's DataTable keeps, measures and formats every cell of every row, and draws all lines anew when one changes; with
lists of tens of thousands that come and go this takes seconds. Here a list may be exchanged at any moment at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.calls import Document

Cell = str | Text
SIDEWAYS = 8
"""Cells that a key moves a table to the side that is wider than its place."""


MOVES: tuple[BindingType, ...] = (
    Binding("up,k", "move(-1)", "Up", show=False),
    Binding("down,j", "move(1)", "Down", show=False),
    Binding("pageup", "page(-1)", "Page up", show=False),
    Binding("pagedown", "page(1)", "Page down", show=False),
    Binding("home,g", "edge(0)", "First", show=False),
    Binding("end,G", "edge(1)", "Last", show=False),
)
"""The keys of whatever has lines and a cursor."""


@dataclass(frozen=True)
class Column:
    """`show` makes a row's cell. `wide`: only where the table has at least so many cells of width."""

    title: str
    show: Callable[[Document], Cell]
    wide: int = 0
    width: int | None = None


class Rows(ScrollView, can_focus=True):
    """`put` gives it the keys of its rows, `cells` is asked for what a row shows. Columns grow with what is shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *MOVES,
        Binding("left", "sideways(-1)", "Left", show=False),
        Binding("right", "sideways(1)", "Right", show=False),
        Binding("enter", "open", "Open", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--header", "rows--cursor"}

    class Moved(Message):
        """The cursor is on another row, or its row shows something else."""

    class Opened(Message):
        """Enter or a click on the row under the cursor."""

    class NearEnd(Message):
        """The last rows are visible soon."""

    def __init__(self, cells: Callable[[str], Sequence[Cell]], **more: Any) -> None:
        super().__init__(**more)
        self.cells = cells
        self.keys: list[str] = []
        self.cursor_row = 0
        self.titles: tuple[str, ...] = ()
        self._widths: list[int] = []
        self._fixed: list[bool] = []
        self._at: dict[str, int] = {}
        self._made: dict[str, list[Cell]] = {}
        """Cells of the rows that were looked at since they last changed."""
        self._drawn: dict[str, Strip] = {}

    # What is shown

    @property
    def row_count(self) -> int:
        return len(self.keys)

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor."""
        return self.keys[self.cursor_row] if self.keys else None

    def lay_out(self, columns: Sequence[tuple[str, int | None]]) -> None:
        """Columns from now on: title and width; None for as wide as its content."""
        self.titles = tuple(title for title, _ in columns)
        self._fixed = [width is not None for _, width in columns]
        self._widths = [cell_len(title) if width is None else width for title, width in columns]
        self._made.clear()
        self._measure()
        self._draw_all()

    def standing(self, keys: Sequence[str]) -> tuple[int, int]:
        """(the cursor's row, the first visible row) if these were the rows.

        The cursor stays on its row, and that where it is on the screen; what is at the very top stays there as long as
        the cursor is visible. Without its row, the cursor keeps its place.
        """
        top, last = round(self.scroll_y), max(0, len(keys) - 1)
        try:
            row = keys.index(self.chosen or "")
        except ValueError:
            return min(self.cursor_row, last), min(top, max(0, len(keys) - self._room))
        if top:
            top += row - self.cursor_row
        elif self.cursor_row < self._room <= row:
            top = row - self._room + 1
        return row, max(0, min(top, len(keys) - self._room))

    def put(self, keys: Sequence[str], changed: bool = True) -> None:
        """The rows from now on. `changed`: what they show may be something else as well."""
        same = self.keys == keys
        if not same:
            self.cursor_row, top = self.standing(keys)
            self.keys = list(keys)
            self._at = {key: index for index, key in enumerate(self.keys)}
            self._resize()
            if top != round(self.scroll_y):
                self.scroll_to(y=top, animate=False, force=True)
        if changed:
            self._look_again()
        if not same:
            self.refresh()
        self.post_message(self.Moved())
        self._tell_end()

    def change(self, key: str) -> None:
        """A row shows something else."""
        if key in self._at:
            self._made.pop(key, None)
            self._measure()
            self._redraw(key)

    def _look_again(self) -> None:
        """Make the visible rows' cells again, and draw those that differ."""
        old, self._made = self._made, {}
        self._measure()
        for key, cells in self._made.items():
            if key in old and not same_cells(old[key], cells):
                self._redraw(key)
            elif key not in old:
                self._drawn.pop(key, None)
        for key in [each for each in self._drawn if each not in self._made]:
            del self._drawn[key]

    @property
    def _room(self) -> int:
        """So many rows are visible at once."""
        return max(1, self.scrollable_content_region.height - 1)

    def _visible(self) -> range:
        top = round(self.scroll_y)
        return range(top, min(top + self._room, len(self.keys)))

    def _measure(self) -> None:
        """Have the visible rows' cells; columns become as wide as they need."""
        grown = False
        for row in self._visible():
            key = self.keys[row]
            if key in self._made:
                continue
            cells = self._made[key] = list(self.cells(key))
            for number, cell in enumerate(cells):
                width = cell_len(cell) if isinstance(cell, str) else cell.cell_len
                if width > self._widths[number] and not self._fixed[number]:
                    self._widths[number] = width
                    grown = True
        if grown:
            self._resize()
            self._draw_all()

    def _resize(self) -> None:
        width = sum(self._widths) + 2 * len(self._widths)
        size = Size(width, len(self.keys) + 1)
        if size != self.virtual_size:
            self.virtual_size = size

    def _draw_all(self) -> None:
        self._drawn.clear()
        self.refresh()

    def _redraw(self, key: str) -> None:
        self._drawn.pop(key, None)
        self._draw_row(self._at[key])

    def _draw_row(self, row: int) -> None:
        line = row - round(self.scroll_y) + 1
        if 1 <= line <= self._room:
            self.refresh(Region(0, line, self.size.width, 1))

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def _theme_changed(self, _: object) -> None:
        self._made.clear()  # cells have the theme's colours
        self._measure()
        self._draw_all()

    # Drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        left = round(self.scroll_x)
        if y == 0:
            strip = self._line(self.titles, self.get_component_rich_style("rows--header"))
            return strip.crop_extend(left, left + width, self.get_component_rich_style("rows--header"))
        row = round(self.scroll_y) + y - 1
        base = self.rich_style
        if row >= len(self.keys):
            return Strip.blank(width, base)
        return self._row(self.keys[row], row == self.cursor_row).crop_extend(left, left + width, base)

    def _row(self, key: str, under_cursor: bool) -> Strip:
        if not under_cursor:
            strip = self._drawn.get(key)
            if strip is None:
                strip = self._drawn[key] = self._line(self._cells_of(key), self.rich_style)
            return strip
        cursor = self.get_component_rich_style("rows--cursor")
        strip = self._line(self._cells_of(key), self.rich_style)
        strip = Strip([Segment(each.text, (each.style or Style()) + cursor) for each in strip])
        return strip.extend_cell_length(self.scrollable_content_region.width + round(self.scroll_x), cursor)

    def _cells_of(self, key: str) -> Sequence[Cell]:
        return self._made.get(key) or self.cells(key)  # what is not measured yet is not kept

    def _line(self, cells: Sequence[Cell], base: Style) -> Strip:
        console = self.app.console
        segments: list[Segment] = []
        for cell, width in zip(cells, self._widths, strict=True):
            if isinstance(cell, str):
                pieces = [Segment(cell.replace("\n", " "), base)]
            else:
                pieces = [Segment(each.text, base + (each.style or Style())) for each in cell.render(console, end="")]
            segments.append(Segment(" ", base))
            segments.extend(Strip(pieces).adjust_cell_length(width, base))
            segments.append(Segment(" ", base))
        return Strip(segments)

    # Moving

    def on_resize(self, event: events.Resize) -> None:
        self._measure()
        self._draw_all()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if round(old) != round(new):
            self._measure()
            self._tell_end()

    def _tell_end(self) -> None:
        # Early enough that who pages down does not meet the end of what is read.
        if self.keys and round(self.scroll_y) + 3 * self._room >= len(self.keys):
            self.post_message(self.NearEnd())

    def move_cursor(self, row: int) -> None:
        """Put the cursor on a row, and have it visible."""
        before = self.cursor_row
        self.cursor_row = max(0, min(row, len(self.keys) - 1))
        if self.cursor_row == before:
            return
        self._draw_row(before)
        self._draw_row(self.cursor_row)
        self._show_cursor()
        self.post_message(self.Moved())
        self._tell_end()

    def _show_cursor(self) -> None:
        top = round(self.scroll_y)
        if not top <= self.cursor_row < top + self._room:
            up = self.cursor_row < top
            self.scroll_to(y=self.cursor_row if up else self.cursor_row - self._room + 1, animate=False, force=True)

    def action_move(self, rows: int) -> None:
        self.move_cursor(self.cursor_row + rows)

    def action_page(self, pages: int) -> None:
        self.move_cursor(self.cursor_row + pages * max(1, self._room - 1))

    def action_edge(self, end: int) -> None:
        self.move_cursor(len(self.keys) - 1 if end else 0)

    def action_sideways(self, steps: int) -> None:
        self.scroll_to(x=max(0, round(self.scroll_x) + steps * SIDEWAYS), animate=False, force=True)

    def action_open(self) -> None:
        self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        line = event.get_content_offset_capture(self).y
        row = round(self.scroll_y) + line - 1
        if line < 1 or row >= len(self.keys):
            return
        if row == self.cursor_row:
            self.action_open()
        else:
            self.move_cursor(row)


def same_cells(one: Sequence[Cell], other: Sequence[Cell]) -> bool:
    """Whether two rows look the same; rich's own comparison of texts leaves out their base style."""
    return all(
        a == b and (isinstance(a, str) or isinstance(b, str) or a.style == b.style)
        for a, b in zip(one, other, strict=True)
    )
