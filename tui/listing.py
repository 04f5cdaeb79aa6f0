"""A list of the API as a table: filtered as you type, loaded by pages as you scroll, kept in place when it changes.

Textual's DataTable draws what is visible; this keeps its rows in step with the API and redraws what changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import DataTable, Input
from textual.widgets.data_table import CellDoesNotExist, RowDoesNotExist, RowKey

from tui.calls import Document

PAGE = 200
Source = Callable[[str, int, str | None], Awaitable[tuple[list[Document], str | None]]]
"""(words, limit, cursor) → a page and the next cursor."""


@dataclass(frozen=True)
class Column:
    """`show` makes a row's cell. `wide`: only where the table has at least so many cells of width."""

    title: str
    show: Callable[[Document], str | Text]
    wide: int = 0
    width: int | None = None


class Table(DataTable[Any]):
    """DataTable whose columns are as wide as their content, on a busy machine as well."""

    def _update_dimensions(self, new_rows: Iterable[RowKey]) -> None:
        # Columns get their widths when the table is next idle. A line that was drawn before that, on a busy machine, is
        # kept by DataTable as it was, cut to the old widths, until something in it changes.
        widths = [each.content_width for each in self.ordered_columns]
        super()._update_dimensions(new_rows)
        if widths != [each.content_width for each in self.ordered_columns]:
            self._clear_caches()
            self.refresh()


class Rows(Table):
    """A table of rows that says when its end comes near."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g,home", "scroll_top", "Top", show=False),
        Binding("G,end", "scroll_bottom", "End", show=False),
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
    ]

    class NearEnd(Message):
        """The last rows are visible."""

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if self.row_count and new + self.size.height >= self.row_count - 5:
            self.post_message(self.NearEnd())


class Listing(Vertical):
    """A filtered table of documents. `refill` reads it again; `chosen` is the document under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "clear_filter", "Clear the filter", show=False),
    ]
    DEFAULT_CSS = """
    Listing { height: 1fr; }
    Listing > Input { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
    Listing.-filtering > Input { display: block; }
    Listing > Rows { height: 1fr; border: round $panel; }
    Listing > Rows { border-title-color: $primary; border-subtitle-color: $foreground 60%; }
    Listing > Rows:focus { border: round $primary; }
    """

    class Chosen(Message):
        """The cursor is on another document, or on none."""

        def __init__(self, listing: Listing, document: Document | None) -> None:
            super().__init__()
            self.listing = listing
            self.document = document

        @property
        def control(self) -> Listing:
            return self.listing

    class Opened(Chosen):
        """Enter was pressed on a document."""

    def __init__(
        self,
        title: str,
        columns: Sequence[Column],
        source: Source,
        *,
        key: Callable[[Document], str] = lambda document: str(document["id"]),
        empty: str = "nothing here",
        marks: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.title = title
        self.columns = tuple(columns)
        self.source = source
        self.key = key
        self.empty = empty
        self.marks = marks
        self.marked: set[str] = set()
        self.documents: dict[str, Document] = {}
        self._pages: list[tuple[str | None, list[str]]] = []
        """Each page's cursor and keys."""
        self._next: str | None = None
        self._shown: tuple[Column, ...] = ()
        self._more = False
        self._words_at = 0

    def compose(self) -> ComposeResult:
        yield Input(placeholder="filter: type what to look for, Enter to keep, Esc to clear", id="words", compact=True)
        yield Rows(cursor_type="row", zebra_stripes=False, header_height=1, cell_padding=1)

    @property
    def rows(self) -> Rows:
        return self.query_one(Rows)

    @property
    def words(self) -> str:
        return self.query_one("#words", Input).value.strip()

    @property
    def chosen(self) -> Document | None:
        rows = self.rows
        if not rows.row_count:
            return None
        try:
            return self.documents.get(str(rows.coordinate_to_cell_key(rows.cursor_coordinate).row_key.value))
        except CellDoesNotExist:
            return None

    @property
    def chosen_all(self) -> list[Document]:
        """The marked documents; without marks, the one under the cursor."""
        marked = [self.documents[key] for key in self.documents if key in self.marked]
        return marked or ([self.chosen] if self.chosen else [])

    # Reading

    async def refill(self) -> None:
        """Read again what is loaded; far down a long list, only the visible pages. May raise ApplianceError."""
        if len(self._pages) > 3:
            await self._refill_visible()
            return
        wanted = max(PAGE, sum(len(keys) for _, keys in self._pages))
        words = self.words
        items, following = await self.source(words, min(500, wanted), None)
        pages: list[tuple[str | None, list[Document]]] = [(None, items)]
        while following and sum(len(page) for _, page in pages) < wanted:
            cursor = following
            items, following = await self.source(words, PAGE, cursor)
            pages.append((cursor, items))
        if words != self.words:
            return
        self._pages = [(cursor, [self.key(each) for each in page]) for cursor, page in pages]
        self._next = following
        self._put([each for _, page in pages for each in page])

    async def _refill_visible(self) -> None:
        top, height, row = int(self.rows.scroll_y), self.rows.size.height, 0
        for index, (cursor, keys) in enumerate(list(self._pages)):
            if row < top + height and row + len(keys) > top:
                items, _ = await self.source(self.words, max(len(keys), 1), cursor)
                found = {self.key(each): each for each in items}
                for key in keys:
                    if key in found:
                        self._set(key, found[key])
                    elif index:
                        self._drop(key)
            row += len(keys)

    @on(Rows.NearEnd)
    def _load_more(self, message: Rows.NearEnd) -> None:
        message.stop()
        if self._next and not self._more:
            self._more = True
            self.run_worker(self._read_more(), exit_on_error=True)

    async def _read_more(self) -> None:
        from tui.appliance import ApplianceError

        cursor, words = self._next, self.words
        try:
            items, following = await self.source(words, PAGE, cursor)
        except ApplianceError as failure:
            self.app.troubled(failure)  # type: ignore[attr-defined]
            return
        finally:
            self._more = False
        if words == self.words and cursor == self._next:
            self._pages.append((cursor, [self.key(each) for each in items]))
            self._next = following
            for each in items:
                self._set(self.key(each), each)
            self._title()

    # The table

    def _put(self, items: list[Document]) -> None:
        rows = self.rows
        self._lay_out()
        keys = [self.key(each) for each in items]
        self.marked &= set(keys)
        if keys == list(self.documents) and rows.row_count == len(keys):
            for key, each in zip(keys, items, strict=True):
                if self.documents[key] != each:
                    self._set(key, each)
            for key in keys:
                self._repaint(key)
        else:
            at = self.chosen
            offset, row = rows.scroll_offset, rows.cursor_row
            with self.app.batch_update():
                rows.clear()
                self.documents = {}
                for each in items:
                    self._set(self.key(each), each)
                if at is not None and self.key(at) in self.documents:
                    row = rows.get_row_index(self.key(at))
                if items:
                    rows.move_cursor(row=min(row, len(items) - 1), animate=False, scroll=False)
                    rows.scroll_to(offset.x, offset.y, animate=False)
        self._title()
        self.post_message(self.Chosen(self, self.chosen))

    def _cells(self, document: Document) -> list[str | Text]:
        cells = [each.show(document) for each in self._shown]
        if self.marks:
            cells.insert(0, "☑" if self.key(document) in self.marked else "☐")
        return cells

    def _set(self, key: str, document: Document) -> None:
        new = key not in self.documents
        self.documents[key] = document
        if new:
            self.rows.add_row(*self._cells(document), key=key)
        else:
            self._repaint(key)

    def _repaint(self, key: str) -> None:
        """Change the cells whose content changed."""
        rows = self.rows
        for column, cell in zip(rows.ordered_columns, self._cells(self.documents[key]), strict=True):
            if rows.get_cell(key, column.key) != cell:
                rows.update_cell(key, column.key, cell, update_width=True)

    def _drop(self, key: str) -> None:
        self.documents.pop(key, None)
        try:
            self.rows.remove_row(key)
        except RowDoesNotExist:
            return
        for _, keys in self._pages:
            if key in keys:
                keys.remove(key)

    def _lay_out(self) -> None:
        wanted = tuple(each for each in self.columns if self.size.width >= each.wide)
        if wanted == self._shown:
            return
        self._shown = wanted
        rows = self.rows
        known, row, offset = list(self.documents.values()), rows.cursor_row, rows.scroll_offset
        rows.clear(columns=True)
        if self.marks:
            rows.add_column("", width=1, key="mark")
        for each in wanted:
            rows.add_column(each.title, width=each.width, key=each.title)
        self.documents = {}
        for document in known:
            self._set(self.key(document), document)
        if known:
            rows.move_cursor(row=min(row, len(known) - 1), animate=False, scroll=False)
            rows.scroll_to(offset.x, offset.y, animate=False)

    def on_resize(self, event: events.Resize) -> None:
        if self.documents:
            self._lay_out()

    def _title(self) -> None:
        count = len(self.documents)
        rows = self.rows
        rows.border_title = self.title
        found = f"{count}{'+' if self._next else ''}"
        if self.words:
            found = f"{found} with “{self.words}”"
        if self.marked:
            found += f", {len(self.marked)} marked"
        rows.border_subtitle = found if count else f"{self.empty}{f' with “{self.words}”' if self.words else ''}"

    def say_empty(self, text: str) -> None:
        """Why there is nothing to show."""
        self.empty = text
        self._title()

    # Keys

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one("#words", Input).focus()

    def action_clear_filter(self) -> None:
        field = self.query_one("#words", Input)
        field.value = ""
        self.remove_class("-filtering")
        self.rows.focus()

    @on(Input.Changed, "#words")
    def _type(self, message: Input.Changed) -> None:
        message.stop()
        self._words_at += 1
        typed = self._words_at
        self.set_timer(0.2, lambda: self._ask(typed))

    def _ask(self, typed: int) -> None:
        if typed == self._words_at:
            self._pages = []
            self.post_message(self.Wanted())

    class Wanted(Message):
        """The filter changed: the pane shall load."""

    @on(Input.Submitted, "#words")
    def _keep(self, message: Input.Submitted) -> None:
        message.stop()
        if not self.words:
            self.remove_class("-filtering")
        self.rows.focus()

    @on(DataTable.RowHighlighted)
    def _highlighted(self, message: DataTable.RowHighlighted) -> None:
        message.stop()
        if message.data_table.row_count and message.cursor_row >= message.data_table.row_count - 20:
            self.rows.post_message(Rows.NearEnd())
        self.post_message(self.Chosen(self, self.chosen))

    @on(DataTable.RowSelected)
    def _selected(self, message: DataTable.RowSelected) -> None:
        message.stop()
        self.post_message(self.Opened(self, self.chosen))

    def key_space(self) -> None:
        """Mark or unmark the row under the cursor, and go on to the next."""
        document = self.chosen
        if self.marks and document is not None and self.rows.has_focus:
            self.marked ^= {self.key(document)}
            self._repaint(self.key(document))
            self._title()
            self.rows.action_cursor_down()
