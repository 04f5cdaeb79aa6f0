"""Python's garbage is collected while nobody presses keys.

With a large site in memory a whole collection takes a quarter of a second and more, and came every few seconds: it was
most of what the slowest keys waited for. What stands since the start is left out of collections altogether.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.app import ConsoleApp

QUIET_S = 5.0
"""Nobody has pressed a key for so long."""
IN_QUIET_EVERY_S = 60.0
AT_LEAST_EVERY_S = 300.0
NEVER = 1_000_000_000


def collect_in_quiet(app: ConsoleApp) -> None:
    """From now on in this process, which is to be the console's alone."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)
    collected = time.monotonic()

    def look() -> None:
        nonlocal collected
        now = time.monotonic()
        quiet = now - app.pressed_at > QUIET_S
        if now - collected > (IN_QUIET_EVERY_S if quiet else AT_LEAST_EVERY_S):
            gc.collect()
            collected = time.monotonic()

    app.set_interval(QUIET_S / 2, look)
