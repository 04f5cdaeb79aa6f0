"""What a step of a run is. It looks at what is true before it acts, so it can be repeated at any point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance.runs.work import Work


class RunError(Exception):
    """A step cannot do its work: `what` failed, on what and why; `remedy` is what to do."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.waits_for = ""
        """The host key that has to be confirmed first."""
        self.remedy = remedy or "Mend the cause and retry the run: what is done already is not done again."


class RunCancelledError(Exception):
    """Somebody cancelled the run; raised at the next place where it may stop."""


class SupersededError(Exception):
    """Another appliance process has taken the run up; this one must write nothing more."""


@dataclass(frozen=True)
class Look:
    """What a step found. `done`: nothing is left to do; else `would` says what will be done.

    `keep` is remembered from the first look of the run on (what was so before, for the way back).
    """

    done: bool
    found: str
    would: str = ""
    keep: Mapping[str, Any] = field(default_factory=dict)


class Step:
    """Base of all steps. `title` is for people, in the imperative. A step that only looks is a `check`."""

    name = ""
    title = ""
    check = False
    final = False
    """What it does cannot be taken back: a run in which it acted is not rolled back."""

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        self.targets = targets

    def look(self, work: Work) -> Look:
        """What is true now. Changes nothing; raises RunError or an error of vCenter or deployment."""
        raise NotImplementedError

    def act(self, work: Work) -> str:
        """Do what is missing; returns what was done."""
        raise RunError(f"{self.title}: it is not so, and this step only looks")

    def undo(self, work: Work) -> str:
        """Take back what `act` did, looking first; returns what was done. "" when there is nothing to take back."""
        return ""
