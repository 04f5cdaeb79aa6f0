"""Structured logs: one JSON object a line on standard error, or coloured text on a terminal. Secrets never reach it.

`trace` is the id of one request; it travels from the API or the client to the daemon and its worker, which log it too.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

SECRET_NAMES = re.compile(r"(password|secret|token|ticket|key)$", re.IGNORECASE)
SECRET_VALUES = re.compile(
    r"(gft_[A-Za-z0-9_-]{10})[A-Za-z0-9_-]+|(gpuferry1\.)[A-Za-z0-9_-]+|(://[^:/@\s]+:)[^@/\s]+(?=@)"
)


def hide_secrets(text: str) -> str:
    """A text without tokens, tickets and passwords of URLs."""
    return SECRET_VALUES.sub(lambda found: f"{found[1] or found[2] or found[3]}…", text)


def _redact(logger: Any, method: str, event: Any) -> Any:
    for name, value in event.items():
        if SECRET_NAMES.search(name):
            event[name] = "…"
        elif isinstance(value, str):
            event[name] = hide_secrets(value)
    return event


def configure(level: str = "INFO") -> None:
    """Set up logging of this process, that of libraries included."""
    terminal = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
