"""A list that changes while it is looked at: what is visible is what the appliance has, and the cursor stays."""

from __future__ import annotations

import asyncio
import random

import pytest
from textual.app import App, ComposeResult

from tui.calls import Document
from tui.listing import PAGE, Listing
from tui.rows import Column


class Book:
    """A list as the appliance keeps it, newest first, given in pages."""

    def __init__(self, count: int) -> None:
        self.next = count
        self.held = list(range(count - 1, -1, -1))
        self.asked = 0

    async def read(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        self.asked += 1
        rest = [each for each in self.held if cursor is None or each < int(cursor)]
        found = rest[:limit]
        following = str(found[-1]) if len(rest) > limit else None
        return [{"id": f"{each:06}", "told": f"number {each}"} for each in found], following

    def change(self, chance: random.Random, count: int) -> None:
        """So many come and go."""
        for _ in range(chance.randint(0, count)):
            self.held.insert(0, self.next)
            self.next += 1
        for _ in range(chance.randint(0, count)):
            self.held.remove(chance.choice(self.held))


class Sheet(App[None]):
    """Shows it."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self.book = book

    def compose(self) -> ComposeResult:
        yield Listing("Numbers", [Column("Number", lambda each: each["id"])], self.book.read)

    def visible(self) -> list[str]:
        """The numbers on the screen."""
        strips = self.screen._compositor.render_strips()
        words = ("".join(segment.text for segment in strip).strip("│ ▁▂▃▄▅▆▇█") for strip in strips)
        return [each for each in words if each.isdigit()]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_visible_is_what_there_is_while_it_comes_and_goes(seed: int) -> None:
    chance, book = random.Random(seed), Book(1000)

    async def scenario() -> None:
        app = Sheet(book)
        async with app.run_test(size=(60, 30)) as pilot:
            listing = app.query_one(Listing)
            await listing.refill()
            await pilot.pause()
            for _ in range(40):
                rows = listing.rows
                rows.move_cursor(chance.choice([0, rows.cursor_row + 30, rows.cursor_row - 60, rows.row_count]))
                await pilot.pause()
                before, line = rows.chosen, rows.cursor_row - round(rows.scroll_y)
                top = round(rows.scroll_y)
                book.change(chance, 40)
                await listing.refill()
                await pilot.pause()
                there = [f"{each:06}" for each in book.held]
                assert rows.keys == sorted(set(rows.keys), reverse=True), "in order, nothing twice"
                seen = app.visible()
                assert seen, "something is visible"
                first = there.index(seen[0])
                assert seen == there[first : first + len(seen)], "and nothing is missing or left over"
                if before in there:
                    assert rows.chosen == before, "the cursor stays on its row"
                    if top and round(rows.scroll_y) not in (0, rows.max_scroll_y):
                        assert rows.cursor_row - round(rows.scroll_y) == line, "and that where it is"

    asyncio.run(scenario())


def test_only_what_is_looked_at_is_read_and_made() -> None:
    book, made = Book(20_000), set[str]()

    def show(document: Document) -> str:
        made.add(document["id"])
        return str(document["told"])

    async def scenario() -> None:
        app = Sheet(book)
        async with app.run_test(size=(60, 30)) as pilot:
            listing = app.query_one(Listing)
            listing.columns = (Column("Told", show),)
            await listing.refill()
            await pilot.pause()
            assert len(listing.documents) <= 2 * PAGE
            assert len(made) <= 30
            listing.rows.move_cursor(60)
            while len(listing.documents) < 2 * PAGE:
                await pilot.pause(0.01)
            await pilot.pause()
            assert len(made) <= 60
            asked = book.asked
            await listing.refill()
            assert book.asked - asked <= 2, "only the pages that are visible are read again"

    asyncio.run(scenario())


def test_columns_are_whole_at_once_when_the_terminal_changes() -> None:
    async def scenario() -> None:
        app = Sheet(Book(50))
        async with app.run_test(size=(60, 30)) as pilot:
            listing = app.query_one(Listing)
            listing.columns = (Column("N", lambda each: each["id"]), Column("T", lambda each: each["told"], wide=50))
            await listing.refill()
            for width, wide in ((60, True), (30, False), (60, True)):
                await pilot.resize_terminal(width, 30)
                await pilot.pause()
                assert app.size.width == width
                strips = app.screen._compositor.render_strips()
                line = "".join(segment.text for segment in strips[2])
                assert "000049" in line, line
                assert ("number 49" in line) == wide, line

    asyncio.run(scenario())
