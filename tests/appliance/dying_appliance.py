"""`gpuferry appliance serve` that kills itself with SIGKILL at the moments of a run that a test has named.

    python dying_appliance.py MOMENTS --data SITE

MOMENTS is a file with a line for each death to come, `ORDINAL MOMENT`: a step has `begun`, is `midway` (it says how far
it is), or is `done` and about to write that down. The first line is taken off when it strikes; an appliance that is
started again goes on with the next.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from appliance.command import main
from appliance.runs.record import Record
from appliance.state.models import RunStep, StepState

MOMENTS = Path(sys.argv[1])
_begin, _change = Record.begin_step, Record.change_step


def strike(ordinal: int, moment: str) -> None:
    """Die here if it is time."""
    left = MOMENTS.read_text().splitlines() if MOMENTS.exists() else []
    if left[:1] == [f"{ordinal} {moment}"]:
        MOMENTS.write_text("\n".join(left[1:]))
        os.kill(os.getpid(), signal.SIGKILL)


def begin_step(self: Record, ordinal: int) -> RunStep:
    step = _begin(self, ordinal)
    strike(ordinal, "begun")
    return step


def change_step(self: Record, ordinal: int, **values: Any) -> None:
    if values.get("state") in (StepState.DONE, StepState.SKIPPED):
        strike(ordinal, "done")
    _change(self, ordinal, **values)
    if "line" in values and "acted" not in values and "state" not in values:
        strike(ordinal, "midway")


Record.begin_step = begin_step  # type: ignore[method-assign]
Record.change_step = change_step  # type: ignore[method-assign]

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[2:]]))
