"""Filters of a request: `device.name~=A100`, `server.has-rdma=true`, `device.phy-memory>=40960`.

    filter   = key operator value
    key      = one of KEYS
    operator = "=" | "!=" | "<=" | ">=" | "<" | ">" | "~="

Several filters are ANDed. Text compares without regard to case; versions compare number by number (12.10 > 12.9);
memory is in MiB, or with a unit (`40GiB`, `40G`, `40960MiB`). `~=` is "contains" and is for text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FILTER = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9._-]*)\s*(~=|!=|<=|>=|==|=|<|>)\s*(.*?)\s*")
OPERATORS: dict[str, Callable[..., bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(|m|mb|mib|g|gb|gib|t|tb|tib)", re.IGNORECASE)
MEMORY_UNITS = {"": 1, "m": 1, "g": 1024, "t": 1024 * 1024}
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

Value = str | bool | int | tuple[int, ...]


class FilterError(ValueError):
    """A filter that means nothing; the message says what would."""


class ServerFacts(Protocol):
    """What filters may ask of a GPU server."""

    address: str
    hostname: str
    has_rdma: bool
    cuda_version: str
    driver_version: str


class GpuFacts(Protocol):
    """What filters may ask of a GPU."""

    id: str
    name: str
    memory_mib: int


def parse_text(text: str) -> str:
    return text.casefold()


def parse_boolean(text: str) -> bool:
    try:
        return BOOLEANS[text.casefold()]
    except KeyError:
        raise ValueError("true or false") from None


def parse_version(text: str) -> tuple[int, ...]:
    """`12.10.1` → (12, 10, 1); trailing zeros do not count, so 12.4 = 12.4.0."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9}){0,7}", text):
        raise ValueError("a version such as 12.4")
    numbers = [int(part) for part in text.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def parse_memory(text: str) -> int:
    found = MEMORY.fullmatch(text)
    if not found or len(found[1]) > 12:
        raise ValueError("MiB, such as 40960, or with a unit, such as 40GiB")
    return int(float(found[1]) * MEMORY_UNITS[found[2][:1].casefold()])


def known_version(text: str) -> tuple[int, ...]:
    """A server's own version; one that cannot be read is older than any."""
    try:
        return parse_version(text)
    except ValueError:
        return ()


@dataclass(frozen=True)
class Key:
    """A key of the language: how its values are read, and where the fact is."""

    parse: Callable[[str], Value]
    fact: Callable[[ServerFacts, GpuFacts], Value]
    ordered: bool = False


KEYS: dict[str, Key] = {
    "server.addr": Key(parse_text, lambda server, gpu: server.address.rsplit(":", 1)[0].casefold()),
    "server.hostname": Key(parse_text, lambda server, gpu: server.hostname.casefold()),
    "server.has-rdma": Key(parse_boolean, lambda server, gpu: server.has_rdma),
    "server.cuda-version": Key(parse_version, lambda server, gpu: known_version(server.cuda_version), ordered=True),
    "server.driver-version": Key(parse_version, lambda server, gpu: known_version(server.driver_version), ordered=True),
    "device.id": Key(parse_text, lambda server, gpu: gpu.id.casefold()),
    "device.name": Key(parse_text, lambda server, gpu: gpu.name.casefold()),
    "device.phy-memory": Key(parse_memory, lambda server, gpu: gpu.memory_mib, ordered=True),
}


@dataclass(frozen=True)
class Filter:
    """One parsed filter; `str()` gives its canonical spelling."""

    key: str
    operator: str
    value: Value
    spelling: str

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{self.spelling}"

    def matches(self, server: ServerFacts, gpu: GpuFacts) -> bool:
        fact = KEYS[self.key].fact(server, gpu)
        if self.operator == "~=":
            return str(self.value) in str(fact)
        return OPERATORS[self.operator](fact, self.value)


def parse_filter(text: str) -> Filter:
    """Read one filter. Raises FilterError naming the offending part and what is allowed there."""
    found = FILTER.fullmatch(text)
    if not found:
        raise FilterError(f"{text!r} is not a filter: write KEY OPERATOR VALUE, such as device.name~=A100")
    name, sign, value = found[1].casefold().replace("_", "-"), found[2].replace("==", "="), found[3]
    if name not in KEYS:
        raise FilterError(f"{text!r}: there is no filter key {name!r}; the keys are {', '.join(KEYS)}")
    if not value:
        raise FilterError(f"{text!r}: nothing to compare {name} with")
    key = KEYS[name]
    if sign == "~=":
        if key.parse is not parse_text:
            raise FilterError(f"{text!r}: ~= looks inside text, and {name} is not text; use = != < <= > >=")
    elif sign not in ("=", "!=") and not key.ordered:
        raise FilterError(f"{text!r}: {name} has no order; use = or !=" + (" or ~=" if key.parse is parse_text else ""))
    try:
        return Filter(name, sign, key.parse(value), value)
    except ValueError as expected:
        raise FilterError(f"{text!r}: {name} is compared with {expected}") from None


def parse_filters(texts: list[str] | tuple[str, ...]) -> tuple[Filter, ...]:
    """Read a request's filters, at most 32. Raises FilterError."""
    if len(texts) > 32:
        raise FilterError(f"{len(texts)} filters in one request; 32 are allowed")
    return tuple(parse_filter(text) for text in texts)
