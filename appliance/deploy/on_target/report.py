"""What the installer tells whoever started it: one JSON object a line on standard output, the last one the result."""

from __future__ import annotations

import json
import sys
from typing import Any


class Failure(Exception):
    """Something was not done. `code` is for programs: signature, space, ticket, verify, busy, key, python, account."""

    def __init__(self, code: str, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.remedy = remedy


class Reporter:
    """Lines for the other end. When it has gone away the work goes on: an installation is finished or undone."""

    def __init__(self) -> None:
        self._gone = False
        self.made: dict[str, str] = {}
        """What was made on the way that nobody can ask for later: a site's first admin token."""

    def _say(self, content: Any) -> None:
        if self._gone:
            return
        try:
            sys.stdout.write(json.dumps(content) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self._gone = True

    def step(self, text: str, fraction: float) -> None:
        """`fraction` of the whole is done, and `text` is what comes now."""
        self._say({"step": text, "done": round(fraction, 3)})

    def result(self, **fields: Any) -> None:
        self._say({"result": fields})

    def failure(self, failure: Failure) -> None:
        self._say({"failure": {"code": failure.code, "what": failure.what, "remedy": failure.remedy}})
