"""The map of the pool: every GPU with its slices in proportion to memory, who holds them, use, temperature, health.

Only the lines on the screen are drawn, and only their servers are asked for. `z` changes between one line for each GPU
and one line for each server.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import show
from tui.calls import Document
from tui.rows import MOVES
from tui.themes import NO_COLOUR, holder_colour, sign
from tui.told import entitle

if TYPE_CHECKING:
    from tui.app import ConsoleApp

KNOWN = 400
"""So many servers' details are kept."""


def shares(sizes: Iterable[int], total: int, width: int) -> list[int]:
    """How many of `width` cells each part of `total` gets: in proportion, at least one while there is room."""
    parts = list(sizes)
    cells = [max(1, int(each * width / total)) if each else 0 for each in parts]
    rest = sorted(range(len(parts)), key=lambda i: (parts[i] * width / total) % 1, reverse=True)
    room = round(sum(parts) * width / total) - sum(cells)
    for i in rest:
        if room <= 0:
            break
        cells[i] += 1
        room -= 1
    while sum(cells) > width:
        cells[max(range(len(cells)), key=cells.__getitem__)] -= 1
    return cells


class PoolMap(ScrollView, can_focus=True):
    """`show_servers` gives it the servers in a line each, `show_details` what is on some of them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *MOVES,
        Binding("z", "zoom", "Zoom"),
        Binding("enter", "open", "Open"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"pool-map--server", "pool-map--dim", "pool-map--cursor", "pool-map--free"}
    DEFAULT_CSS = """
    PoolMap { height: 1fr; border: round $panel; border-title-color: $primary; border-subtitle-color: $foreground 60%; }
    PoolMap:focus { border: round $primary; }
    PoolMap > .pool-map--server { text-style: bold; background: $panel; }
    PoolMap > .pool-map--dim { color: $foreground 55%; }
    PoolMap > .pool-map--free { color: $foreground 30%; }
    PoolMap > .pool-map--cursor { background: $primary 30%; }
    """

    class Wanted(Message):
        """Details of these servers are needed for what is visible."""

        def __init__(self, servers: list[str]) -> None:
            super().__init__()
            self.servers = servers

    class Opened(Message):
        """Enter or a click on a server or one of its GPUs."""

        def __init__(self, server: str, gpu: str | None) -> None:
            super().__init__()
            self.server = server
            self.gpu = gpu

    class Moved(Message):
        """The cursor is on another line."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.servers: list[Document] = []
        self.by_gpu = True
        self.cursor = 0
        self.details: OrderedDict[str, tuple[float, Document]] = OrderedDict()
        self._starts: list[int] = [0]
        self._index: dict[str, int] = {}
        self._drawn: dict[str, dict[tuple[object, ...], Strip]] = {}
        """Each server's lines that were drawn since it last changed."""
        self._asked: dict[str, float] = {}

    @property
    def console(self) -> ConsoleApp:
        return cast("ConsoleApp", self.app)

    # What is shown

    def show_servers(self, servers: list[Document], more: bool = False) -> None:
        """The pool's servers in the order of their names."""
        at = self.place(self.cursor)[0] if self.servers else None
        before = self.servers
        self.servers = servers
        if len(before) == len(servers) and all(
            old["id"] == new["id"] and old["gpus"] == new["gpus"] for old, new in zip(before, servers, strict=True)
        ):
            for old, new in zip(before, servers, strict=True):
                if old != new:
                    self._redraw(new["id"])
        else:
            self._lay_out(at["id"] if at else None)
        gpus = sum(each["gpus"] for each in servers)
        told = f"{len(servers)}{'+' if more else ''} servers, {gpus} GPUs" if servers else ""
        entitle(self, str(self.border_title or ""), told)

    def show_details(self, details: list[Document]) -> None:
        """What is on some servers now."""
        now = time.monotonic()
        for each in details:
            changed = self.detail(each["id"]) != each
            self.details[each["id"]] = now, each
            self.details.move_to_end(each["id"])
            self._asked.pop(each["id"], None)
            if changed:
                self._redraw(each["id"])
        while len(self.details) > KNOWN:
            self._drawn.pop(self.details.popitem(last=False)[0], None)

    def _redraw(self, server: str) -> None:
        """Draw a server's lines anew, where they are visible."""
        self._drawn.pop(server, None)
        index = self._index.get(server)
        if index is None:
            return
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        first, last = max(self._starts[index], top), min(self._starts[index + 1], top + height)
        if first < last:
            self.refresh(Region(0, first - top, self.size.width, last - first))

    def forget_drawn(self, *_: object) -> None:
        """Draw everything anew."""
        self._drawn.clear()
        self.refresh()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self.forget_drawn)

    def detail(self, server: str) -> Document | None:
        known = self.details.get(server)
        return known[1] if known else None

    def _lines_of(self, server: Document) -> int:
        return 1 + server["gpus"] if self.by_gpu else 1

    def _lay_out(self, keep: str | None = None) -> None:
        self._starts = [0, *accumulate(self._lines_of(each) for each in self.servers)]
        self._index = {each["id"]: index for index, each in enumerate(self.servers)}
        if keep is not None:
            for index, each in enumerate(self.servers):
                if each["id"] == keep:
                    inside = self.cursor - self._starts[index]
                    self.cursor = self._starts[index] + (
                        inside if 0 <= inside < self._lines_of(each) and self.by_gpu else 0
                    )
                    break
        self.cursor = max(0, min(self.cursor, self._starts[-1] - 1))
        self.virtual_size = Size(self.scrollable_content_region.width, self._starts[-1])
        self.forget_drawn()
        self.ask()

    def place(self, line: int) -> tuple[Document, int | None]:
        """The server of a line, and the number of the GPU within it; None on the server's own line."""
        index = min(bisect_right(self._starts, line) - 1, len(self.servers) - 1)
        inside = line - self._starts[index]
        return self.servers[index], (inside - 1 if inside else None)

    @property
    def under_cursor(self) -> tuple[Document, Document | None] | None:
        """The server under the cursor (its details where known) and the GPU."""
        if not self.servers:
            return None
        server, number = self.place(self.cursor)
        detail = self.detail(server["id"])
        gpus = detail["gpus"] if detail else []
        return detail or server, gpus[number] if number is not None and number < len(gpus) else None

    def visible_servers(self) -> list[str]:
        if not self.servers:
            return []
        first, last = self.scroll_offset.y, self.scroll_offset.y + max(1, self.scrollable_content_region.height)
        begin = bisect_right(self._starts, first) - 1
        end = bisect_right(self._starts, min(last, self._starts[-1]) - 1)
        return [each["id"] for each in self.servers[begin:end]]

    def ask(self) -> None:
        """Ask for the visible servers whose details are not known."""
        now = time.monotonic()
        missing = [
            each for each in self.visible_servers() if each not in self.details and now - self._asked.get(each, -9) > 3
        ]
        if missing:
            self._asked.update(dict.fromkeys(missing, now))
            self.post_message(self.Wanted(missing))

    # Drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        line = self.scroll_offset.y + y
        if line >= self._starts[-1]:
            return Strip.blank(width, self.rich_style)
        server, number = self.place(line)
        lit = line == self.cursor and self.has_focus
        drawn = self._drawn.setdefault(server["id"], {})
        key = (number, width, lit)
        strip = drawn.get(key)
        if strip is None:
            strip = self._draw(line, width)
            if lit:
                focus = self.get_component_rich_style("pool-map--cursor")
                strip = Strip([_lit(each, focus) for each in strip])
            drawn[key] = strip
        return strip

    def _draw(self, line: int, width: int) -> Strip:
        server, number = self.place(line)
        detail = self.detail(server["id"])
        if number is None:
            pieces = self._server_line(server, detail, width) if self.by_gpu else self._thin_line(server, detail, width)
        elif detail is None or number >= len(detail["gpus"]):
            pieces = [Segment("    …", self.get_component_rich_style("pool-map--dim"))]
        else:
            pieces = self._gpu_line(detail["gpus"][number], width)
        base = self.rich_style
        if number is None and self.by_gpu:
            base = self.get_component_rich_style("pool-map--server")
        return Strip([Segment(each.text, base + (each.style or Style())) for each in pieces]).adjust_cell_length(
            width, base
        )

    def _colour(self, name: str) -> Style:
        return Style(color=self.console.colour(name))

    def _server_state(self, server: Document) -> tuple[str, str]:
        if server["state"] == "active":
            return ("ready", "ready") if server["connected"] else ("away", "away")
        return server["state"], server["state"]

    def _server_line(self, server: Document, detail: Document | None, width: int) -> list[Segment]:
        state, label = self._server_state(detail or server)
        mark, colour = sign(state)
        gpus = detail["gpus"] if detail else []
        reserved = sum(each["reserved_mib"] for each in gpus) if detail else server["reserved_mib"]
        memory = sum(each["memory_mib"] for each in gpus) if detail else server["memory_mib"]
        bad = [each for gpu in gpus for each in gpu["bad"]] + (detail["bad"] if detail else [])
        right = f" {show.mib(reserved)} of {show.mib(memory)} leased "
        host = f"  on {detail['host']}" if detail and detail.get("host") else ""
        pieces = [
            Segment(f" {mark} ", self._colour(colour)),
            Segment(server["name"]),
            Segment(f"  {label}", self._colour(colour)),
            Segment(host, Style(bold=False)),
        ]
        if bad:
            worst = "failed" if any(each["state"] == "failed" for each in bad) else "warning"
            text = ", ".join(sorted({each["check"] for each in bad}))
            pieces.append(Segment(f"  {sign(worst)[0]} {text}", self._colour(sign(worst)[1])))
        room = width - len(right)
        used = 0
        kept: list[Segment] = []
        for each in pieces:
            text = each.text[: max(0, room - used)]
            used += len(text)
            kept.append(Segment(text, each.style))
        return [*kept, Segment(" " * (room - used)), Segment(right)]

    def _thin_line(self, server: Document, detail: Document | None, width: int) -> list[Segment]:
        state, _ = self._server_state(detail or server)
        mark, colour = sign(state)
        name_width = 18 if width < 120 else 28
        part = server["reserved_mib"] / server["memory_mib"] if server["memory_mib"] else 0.0
        if detail:
            memory = sum(each["memory_mib"] for each in detail["gpus"])
            part = sum(each["reserved_mib"] for each in detail["gpus"]) / memory if memory else 0.0
        pieces = [
            Segment(f" {mark} ", self._colour(colour)),
            Segment(f"{server['name'][:name_width]:<{name_width}}"),
            Segment(f"{part:>5.0%} "),
        ]
        count = server["gpus"]
        if not count:
            return [*pieces, Segment("no GPUs", self.get_component_rich_style("pool-map--dim"))]
        each_width = max(1, (width - name_width - 9) // count - 1)
        if detail is None:
            return [*pieces, Segment(show.bar(part, min(40, width - name_width - 9)), self._colour("primary"))]
        for gpu in detail["gpus"]:
            pieces += [*self._slices(gpu, each_width, labels=each_width >= 12), Segment(" ")]
        return pieces

    def _gpu_line(self, gpu: Document, width: int) -> list[Segment]:
        wide = width >= 110
        dim = self.get_component_rich_style("pool-map--dim")
        name_width = 24 if wide else 14
        name = gpu["name"].removeprefix("NVIDIA ")
        mark, colour = sign(gpu["state"])
        bad = gpu["bad"]
        if bad and gpu["state"] == "ready":
            mark, colour = sign("failed" if any(each["state"] == "failed" for each in bad) else "warning")
        pieces = [
            Segment(f"  {mark} ", self._colour(colour)),
            Segment(f"{gpu['ordinal']:>2} "),
            Segment(f"{name[:name_width]:<{name_width}} ", dim),
        ]
        spark = 16 if wide else 6
        tail = 7 + 5 + 5 + spark + 1
        bar_width = max(8, width - 4 - 3 - name_width - 1 - tail - 1)
        pieces += self._slices(gpu, bar_width, labels=True)
        leased = gpu["reserved_mib"] / gpu["memory_mib"] if gpu["memory_mib"] else 0.0
        use, heat = gpu["utilisation"], gpu["temperature_c"]
        hot = any(each["check"] == "gpu.temperature" for each in bad)
        pieces += [
            Segment(f" {leased:>5.0%} "),
            Segment(f"{use:>4.0f}%" if use is not None else "    –", dim if use is None else Style()),
            Segment(f"{heat:>4.0f}°" if heat is not None else "    –", self._colour("warning") if hot else dim),
            Segment(f" {show.spark(gpu['history'], spark)}", self._colour("secondary")),
        ]
        return pieces

    def _slices(self, gpu: Document, width: int, labels: bool) -> list[Segment]:
        theme = self.console.theme
        free = self.get_component_rich_style("pool-map--free")
        cells = shares((each["memory_mib"] for each in gpu["slices"]), gpu["memory_mib"], width)
        pieces = []
        for number, (held, count) in enumerate(zip(gpu["slices"], cells, strict=True)):
            if not count:
                continue
            text = f" {held['client']}" if labels and count >= 4 else ""
            text = text[: count - 1].ljust(count - 1) + "▕"
            colour = holder_colour(held["client"], theme)
            if theme == NO_COLOUR.name and number % 2:
                style = Style(color="#000000", bgcolor="#8c8c8c")
            else:
                style = Style(color="#101010" if _bright(colour) else "#ffffff", bgcolor=colour)
            if held["state"] in ("reserved", "releasing"):
                style += Style(italic=True, dim=True)
            pieces.append(Segment(text, style))
        rest = width - sum(cells)
        lost = gpu["state"] != "ready"
        pieces.append(Segment(("╱" if lost else "·") * rest, free))
        return pieces

    # Moving

    def on_resize(self, event: events.Resize) -> None:
        self._lay_out()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if round(old) != round(new):
            self.ask()

    def _go(self, line: int) -> None:
        before = self.cursor
        self.cursor = max(0, min(line, self._starts[-1] - 1))
        if self.cursor == before:
            return
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        if not top <= self.cursor < top + height:
            self.scroll_to(y=self.cursor if self.cursor < top else self.cursor - height + 1, animate=False, force=True)
        else:
            self.refresh(Region(0, before - top, self.size.width, 1), Region(0, self.cursor - top, self.size.width, 1))
        self.post_message(self.Moved())

    def action_move(self, lines: int) -> None:
        self._go(self.cursor + lines)

    def action_page(self, pages: int) -> None:
        self._go(self.cursor + pages * max(1, self.scrollable_content_region.height - 1))

    def action_edge(self, end: int) -> None:
        self._go(self._starts[-1] - 1 if end else 0)

    def action_zoom(self) -> None:
        """One line for each GPU, or for each server."""
        at = self.place(self.cursor)[0]["id"] if self.servers else None
        self.by_gpu = not self.by_gpu
        self._lay_out(at)
        if at is not None:
            self.scroll_to(
                y=max(0, self.cursor - self.scrollable_content_region.height // 2), animate=False, force=True
            )

    def action_open(self) -> None:
        if self.servers:
            server, number = self.place(self.cursor)
            detail = self.detail(server["id"])
            gpus = detail["gpus"] if detail else []
            gpu = gpus[number]["id"] if number is not None and number < len(gpus) else None
            self.post_message(self.Opened(server["id"], gpu))

    def on_click(self, event: events.Click) -> None:
        line = self.scroll_offset.y + event.get_content_offset_capture(self).y
        if line < self._starts[-1]:
            self._go(line)
            if event.chain == 2:
                self.action_open()


def _lit(segment: Segment, cursor: Style) -> Segment:
    """A segment under the cursor; slices keep their holders' colours."""
    if segment.style is None or segment.text.endswith("▕"):
        return segment
    return Segment(segment.text, cursor + Style(color=segment.style.color))


def _bright(colour: str) -> bool:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red * 299 + green * 587 + blue * 114 > 110_000
