"""What gpuferry does, in vCenter's own event lists: user events on the host or VM that it was done to.

Source: EventManager.LogUserEvent (privilege Global.LogEvent).
"""

from __future__ import annotations

from typing import Any

import structlog

from vcenter.errors import VcenterError
from vcenter.session import Session

MAX_CHARACTERS = 1000

_log = structlog.get_logger(__name__)


def log_event(session: Session, ref: Any, message: str) -> None:
    """Writes a user event on a host or VM: `gpuferry: <message>`, at most 1000 characters."""
    text = f"gpuferry: {message}"
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS - 1] + "…"
    with session.doing("Logging an event"):
        session.content.eventManager.LogUserEvent(ref, text)


def note(session: Session, ref: Any, message: str) -> bool:
    """Like `log_event`, for work that is done already: a failure to log is logged here, and does not undo the work."""
    try:
        log_event(session, ref, message)
    except VcenterError as error:
        _log.warning("the event could not be logged in vCenter", message=message, error=error.what)
        return False
    return True
