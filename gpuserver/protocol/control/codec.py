"""Messages as one JSON frame: `{"v": 1, "t": "heartbeat", ...fields}`.

Whoever reads one gets a dataclass whose every field has the declared type and a sane size, or a MalformedMessageError
that says what is wrong; nothing of a stranger's bytes goes further unchecked. Fields a reader does not know are
ignored, fields that are missing take their default: so fields can be added without a new version.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable
from typing import Any, Optional, TypeVar

VERSION = 1
MESSAGE_BYTES = 4 << 20
TEXT_LENGTH = 4096
LIST_LENGTH = 65536
NUMBER_LIMIT = 1 << 53

Decoder = Callable[[Any], Any]
M = TypeVar("M")
KINDS: dict[str, Any] = {}
"""Kind → message class."""


class MalformedMessageError(ValueError):
    """Bytes that are not a message of this version; the text says why."""


class VersionMismatchError(MalformedMessageError):
    """A message of another version of the protocol."""


def message(kind: str) -> Callable[[M], M]:
    """Class decorator: a frozen dataclass that travels under the name `kind`."""

    def declare(cls: M) -> M:
        cls.KIND = kind  # type: ignore[attr-defined]
        KINDS[kind] = cls
        return cls

    return declare


def encode(content: Any) -> bytes:
    """The frame of a message."""
    fields = {"v": VERSION, "t": content.KIND}
    fields.update(content.__dict__)
    return json.dumps(fields, separators=(",", ":"), default=_plain, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return value.__dict__
    raise TypeError(f"{value!r} cannot be sent")


def decode(frame: bytes) -> Any:
    """The message in a frame. Raises MalformedMessageError."""
    if len(frame) > MESSAGE_BYTES:
        raise MalformedMessageError(f"{len(frame)} bytes; a message has at most {MESSAGE_BYTES}")
    try:
        fields = json.loads(frame.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as wrong:
        raise MalformedMessageError(f"not JSON: {wrong}") from None
    if not isinstance(fields, dict):
        raise MalformedMessageError("not a JSON object")
    if fields.get("v") != VERSION:
        raise VersionMismatchError(
            f"control protocol version {str(fields.get('v'))[:20]} was spoken, version {VERSION} is understood: "
            "install the same gpuferry version at both ends"
        )
    cls = KINDS.get(str(fields.get("t")))
    if cls is None:
        raise MalformedMessageError(f"there is no message {str(fields.get('t'))[:40]!r}")
    return build(cls, fields)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def build(cls: Any, fields: Any) -> Any:
    """A dataclass from a JSON object."""
    if not isinstance(fields, dict):
        raise MalformedMessageError(f"{cls.__name__} is not an object")
    decoders = _decoders(cls)
    values = {}
    for name, (decoder, required) in decoders.items():
        if name in fields:
            try:
                values[name] = decoder(fields[name])
            except MalformedMessageError as wrong:
                raise MalformedMessageError(f"{cls.__name__}.{name}: {wrong}") from None
        elif required:
            raise MalformedMessageError(f"{cls.__name__}.{name} is missing")
    return cls(**values)


_KNOWN: dict[Any, dict[str, Any]] = {}


def _decoders(cls: Any) -> dict[str, Any]:
    known = _KNOWN.get(cls)
    if known is None:
        hints = typing.get_type_hints(cls)
        known = {}
        for field in dataclasses.fields(cls):
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            known[field.name] = (decoder_of(hints[field.name]), required)
        _KNOWN[cls] = known
    return known


def decoder_of(hint: Any) -> Decoder:
    """What turns a JSON value into a value of type `hint`."""
    if hint in SCALARS:
        return SCALARS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        inner = decoder_of(next(each for each in arguments if each is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        return _sequence(decoder_of(arguments[0]))
    if origin is dict:
        return _mapping(decoder_of(arguments[1]))
    if dataclasses.is_dataclass(hint):
        return lambda value: build(hint, value)
    raise TypeError(f"{hint!r} cannot travel in a message")


def _sequence(inner: Decoder) -> Decoder:
    def decode_sequence(value: Any) -> Any:
        if not isinstance(value, list) or len(value) > LIST_LENGTH:
            raise MalformedMessageError("not a list, or too long a one")
        return tuple(map(inner, value))

    return decode_sequence


def _mapping(inner: Decoder) -> Decoder:
    def decode_mapping(value: Any) -> Any:
        if not isinstance(value, dict) or len(value) > LIST_LENGTH:
            raise MalformedMessageError("not an object, or too large a one")
        return {_text(key): inner(each) for key, each in value.items()}

    return decode_mapping


def _text(value: Any) -> str:
    # Control characters and lone surrogates would break a terminal, a log line or a database.
    if not isinstance(value, str) or len(value) > TEXT_LENGTH or not value.isprintable():
        raise MalformedMessageError(f"not printable text of at most {TEXT_LENGTH} characters")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not -NUMBER_LIMIT < value < NUMBER_LIMIT:
        raise MalformedMessageError("not an integer of at most 53 bits")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not -1e300 < value < 1e300:
        raise MalformedMessageError("not a number")
    return float(value)


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedMessageError("not true or false")
    return value


SCALARS: dict[Any, Decoder] = {str: _text, int: _integer, float: _number, bool: _truth}


def printable(text: Optional[str]) -> str:
    """Text made fit for a message: unprintable characters become `?`, and it is cut to length."""
    return "".join(each if each.isprintable() else "?" for each in (text or "")[:TEXT_LENGTH])
