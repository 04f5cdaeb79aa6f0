"""Numbers, sizes and times as people read them in a table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

BLOCKS = "▁▂▃▄▅▆▇█"
UUID = re.compile(r"\b(GPU-[0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f-]+")
LONG_ID = re.compile(r"\b([a-z-]+)-[0-9a-z]{21}([0-9a-z]{5})\b")


def mib(value: float | None) -> str:
    """MiB as MiB, GiB or TiB with three digits at most."""
    if value is None:
        return "–"
    for unit, size in (("TiB", 1 << 20), ("GiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{value:.0f} MiB"


def amount(value: float) -> str:
    """A count: 950, 12.3k, 4.5M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if value >= size:
            scale = {"G": 1e9, "M": 1e6, "k": 1e3}[unit]
            return f"{value / scale:.1f}{unit}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """Bytes as B, kB, MB or GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f} B"


def span(seconds: float | None) -> str:
    """A duration: 8 s, 4 min, 2 h 5 min, 3 d."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    if seconds < 86400:
        minutes = seconds % 3600 // 60
        return f"{seconds // 3600:.0f} h" + (f" {minutes:.0f} min" if minutes else "")
    return f"{seconds // 86400:.0f} d"


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def ago(text: str | None) -> str:
    """How long a time of the API is past."""
    when = moment(text)
    return "–" if when is None else span((datetime.now(UTC) - when).total_seconds())


def until(text: str | None) -> str:
    """How long a time of the API is ahead; `over` when it is past."""
    when = moment(text)
    if when is None:
        return "–"
    left = (when - datetime.now(UTC)).total_seconds()
    return span(left) if left > 0 else "over"


def clock(text: str | None) -> str:
    """A time of the API in this machine's time zone: the time of day, with the day when that is another."""
    when = moment(text)
    if when is None:
        return "–"
    local = when.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M")


def between(begin: str | None, end: str | None) -> str:
    """How long something took, or has taken until now."""
    first, last = moment(begin), moment(end) or datetime.now(UTC)
    return "–" if first is None else span((last - first).total_seconds())


def program(text: str, most: int) -> str:
    """A command line as people know it: `/opt/venv/bin/python /srv/ada/train.py -v` is `python train.py -v`."""
    words = [word.rstrip("/").rpartition("/")[2] if word.startswith("/") else word for word in text.split()]
    short = " ".join(words)
    return short if len(short) <= most else f"{short[: most - 1]}…"


def short(subject: str) -> str:
    """A subject, its ids cut to what tells them apart: `run-01m8…8jz6sye` is `run …z6sye`, GPUs `GPU-8f6c1a2b…`."""
    return UUID.sub(r"\1…", LONG_ID.sub(r"\1 …\2", subject))


def counted(count: int, noun: str) -> str:
    """`1 lease`, `3 leases`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def spark(values: Iterable[float], width: int, most: float = 100.0) -> str:
    """The last `width` values as a line of blocks, 0 to `most`."""
    last = list(values)[-width:]
    return "".join(BLOCKS[min(7, max(0, int(each / most * 7.999)))] for each in last).rjust(width)


def bar(part: float, width: int) -> str:
    """A line of `width` cells of which `part` (0 to 1) is full, in eighths of a cell."""
    eighths = round(min(1.0, max(0.0, part)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width)
