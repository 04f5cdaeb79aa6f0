"""A list of the API as a table: filtered as you type, loaded by pages as you scroll, kept in place when it changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import DataTable, Input
from textual.widgets.data_table import RowKey

from tui.calls import Document
from tui.rows import Cell, Column, Rows
from tui.told import entitle

PAGE = 100
MOST = 500
"""More than so many documents the appliance does not give at once."""
Source = Callable[[str, int, str | None], Awaitable[tuple[list[Document], str | None]]]
"""(words, limit, cursor) → a page and the next cursor."""


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
        self._filled_with = ""
        """The filter with which the pages were read."""
        self._more = False
        self._words_at = 0

    def compose(self) -> ComposeResult:
        yield Input(placeholder="filter: type what to look for, Enter to keep, Esc to clear", id="words", compact=True)
        yield Rows(self._cells)

    @property
    def rows(self) -> Rows:
        return self.query_one(Rows)

    @property
    def words(self) -> str:
        return self.query_one("#words", Input).value.strip()

    @property
    def chosen(self) -> Document | None:
        return self.documents.get(self.rows.chosen or "")

    @property
    def chosen_all(self) -> list[Document]:
        """The marked documents; without marks, the one under the cursor."""
        marked = [self.documents[key] for key in self.documents if key in self.marked]
        return marked or ([self.chosen] if self.chosen else [])

    # Reading

    async def refill(self) -> None:
        """Read again what is visible, and with it what stands around it. May raise ApplianceError."""
        words = self.words
        if self._pages and words == self._filled_with:
            read: set[str | None] = set()
            while words == self.words and (left := [each for each in self._visible_pages() if each not in read]):
                read.add(left[0])
                await self._read_page(left[0], words)
        else:
            items, following = await self.source(words, PAGE, None)
            if words != self.words:
                return
            self._filled_with, self._next = words, following
            self._pages = [(None, [self.key(each) for each in items])]
            self.documents = {self.key(each): each for each in items}
        if words == self.words:
            self._put()

    def _visible_pages(self) -> list[str | None]:
        """The cursors of the pages that will have visible rows, from top to bottom."""
        _, top = self.rows.standing([key for _, keys in self._pages for key in keys])
        found, row = [], 0
        for cursor, keys in self._pages:
            if row <= top + self.rows.size.height and row + len(keys) >= top:
                found.append(cursor)
            row += len(keys)
        return found or [None]

    async def _read_page(self, cursor: str | None, words: str) -> None:
        """Read a page again: what is new comes in, what is gone goes, what was pushed out becomes a page of its own."""
        old = next((keys for at, keys in self._pages if at == cursor), None)
        if old is None:
            return  # it has become one with another meanwhile
        items, following = await self.source(words, min(MOST, max(PAGE, len(old))), cursor)
        index = next((i for i, (at, _) in enumerate(self._pages) if at == cursor), None)
        if index is None or words != self.words:
            return
        new = {self.key(each): each for each in items}
        rest = self._behind(index, list(new)) if following is not None else []
        if rest:
            rest[0] = (following, rest[0][1])
        else:
            self._next = following
        before = [(at, [key for key in keys if key not in new]) for at, keys in self._pages[:index]]
        self._pages = [*before, (cursor, list(new)), *rest]
        known = self.documents | new
        self.documents = {key: known[key] for _, keys in self._pages for key in keys}

    def _behind(self, index: int, new: list[str]) -> list[tuple[str | None, list[str]]]:
        """What follows a page that is another one now: what it pushed out, and the pages behind it."""
        pages = self._pages[index:]
        flat = [key for _, keys in pages for key in keys]
        last = new[-1] if new else ""
        if last in flat:
            over = set(flat[: flat.index(last) + 1])
        elif any(key in flat for key in new):
            return []  # it reaches farther than what was read
        else:
            over = set()  # all of it came in front of what was read
        rest = [(at, [key for key in keys if key not in over]) for at, keys in pages]
        rest = [(at, keys) for at, keys in rest if keys]
        if len(rest) > 1 and len(rest[0][1]) + len(rest[1][1]) <= 2 * PAGE:
            rest[:2] = [(rest[0][0], rest[0][1] + rest[1][1])]
        return rest

    @on(Rows.NearEnd)
    def _load_more(self, message: Rows.NearEnd) -> None:
        message.stop()
        if self._next and not self._more and self.words == self._filled_with:
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
            new = {self.key(each): each for each in items if self.key(each) not in self.documents}
            self._pages.append((cursor, list(new)))
            self._next = following
            self.documents |= new
            self.rows.put(list(self.documents), changed=False)
            self._title()

    # The table

    def _put(self) -> None:
        self._lay_out()
        self.marked &= set(self.documents)
        self.rows.put(list(self.documents))
        self._title()

    def _cells(self, key: str) -> list[Cell]:
        document = self.documents.get(key)
        if document is None:
            return [""] * (len(self._shown) + self.marks)  # gone just now; its row follows
        cells = [each.show(document) for each in self._shown]
        if self.marks:
            cells.insert(0, "☑" if key in self.marked else "☐")
        return cells

    def _lay_out(self) -> None:
        wanted = tuple(each for each in self.columns if self.size.width >= each.wide)
        if wanted != self._shown:
            self._shown = wanted
            mark: list[tuple[str, int | None]] = [("", 1)] if self.marks else []
            self.rows.lay_out([*mark, *((each.title, each.width) for each in wanted)])

    def on_resize(self, event: events.Resize) -> None:
        if self.documents:
            self._lay_out()

    def _title(self) -> None:
        count = len(self.documents)
        found = f"{count}{'+' if self._next else ''}"
        if self.words:
            found = f"{found} with “{self.words}”"
        if self.marked:
            found += f", {len(self.marked)} marked"
        nothing = f"{self.empty}{f' with “{self.words}”' if self.words else ''}"
        entitle(self.rows, self.title, found if count else nothing)

    def begin_anew(self, title: str) -> None:
        """It shows something else from the next `refill` on."""
        self.title = title
        self._pages = []

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

    @on(Rows.Moved)
    def _moved(self, message: Rows.Moved) -> None:
        message.stop()
        self.post_message(self.Chosen(self, self.chosen))

    @on(Rows.Opened)
    def _opened(self, message: Rows.Opened) -> None:
        message.stop()
        self.post_message(self.Opened(self, self.chosen))

    def key_space(self) -> None:
        """Mark or unmark the row under the cursor, and go on to the next."""
        document = self.chosen
        if self.marks and document is not None and self.rows.has_focus:
            self.marked ^= {self.key(document)}
            self.rows.change(self.key(document))
            self._title()
            self.rows.action_move(1)
