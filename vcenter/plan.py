"""What a plan is: the difference between what is and what should be, as plain data that a person can read before it
happens.

Every operation here looks first (`plan_x`), and does only the difference (`apply_x`). An empty plan means that
everything is already as wanted, so every operation can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One thing that changes: of which object, what, from which value to which. "" means: not there."""

    object_name: str
    what: str
    before: str
    after: str

    def __str__(self) -> str:
        if not self.before:
            return f"{self.object_name}: {self.what}: {self.after}"
        if not self.after:
            return f"{self.object_name}: {self.what}: {self.before} removed"
        return f"{self.object_name}: {self.what}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Plan:
    """Base of all plans. `changes` is the exact difference, `steps` what will be done, in order, `warnings` what to
    know.
    """

    object_name: str
    changes: tuple[Change, ...] = ()
    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.changes and not self.steps

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: what a person would read."""
        return {
            "object": self.object_name,
            "changes": [asdict(change) for change in self.changes],
            "steps": list(self.steps),
            "warnings": list(self.warnings),
        }


def differences(object_name: str, pairs: Iterable[tuple[str, Any, Any]]) -> tuple[Change, ...]:
    """The changes among (what, before, after) whose values differ."""
    return tuple(
        Change(object_name, what, _shown(before), _shown(after)) for what, before, after in pairs if before != after
    )


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
