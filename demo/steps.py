"""Running the demo: named steps in order, each timed, stopping at the first that fails, and the summary at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
GPUFERRY = (sys.executable, "-m", "clientagent.command")


class StepFailedError(Exception):
    """A step did not give what it promises; the message says what was expected and what came."""


@dataclass
class Outcome:
    name: str
    seconds: float
    found: str


@dataclass
class Demo:
    """The demo as it goes: what later steps need of earlier ones, and what is to be undone at the end."""

    work: Path
    console: Console = field(default_factory=Console)
    outcomes: list[Outcome] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    api: str = ""  # the appliance's REST API, and the token of its administrator
    token: str = ""

    def step(self, name: str, action: Callable[[Demo], str]) -> None:
        """Run one step; `action` returns a line on what it found. Raises StepFailedError."""
        self.console.print(f"[bold]==>[/bold] {escape(name)}")
        start = time.monotonic()
        found = action(self)
        self.outcomes.append(Outcome(name, time.monotonic() - start, found))
        self.console.print(f"    {escape(found)}")

    def run(self, *command: str, show: bool = False, timeout: float = 300) -> str:
        """Run a command in the demo's folder and give its standard output. Raises StepFailedError when it fails."""
        self.console.print(f"    [dim]$ {escape(' '.join(command))}[/dim]")
        try:
            done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise StepFailedError(f"{command[0]} was still running after {timeout:.0f} s") from None
        if done.returncode != 0:
            raise StepFailedError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        if show:
            self.console.print(escape(done.stdout.rstrip()))
        return done.stdout

    def gpuferry(self, *arguments: str, show: bool = False, timeout: float = 300) -> str:
        """Run `gpuferry ARGUMENTS` as a user would."""
        self.console.print(f"    [dim]$ gpuferry {escape(' '.join(arguments))}[/dim]")
        done = subprocess.run(
            [*GPUFERRY, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode != 0:
            raise StepFailedError(f"gpuferry {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        if show:
            self.console.print(escape(done.stdout.rstrip()))
        return done.stdout

    def summary(self) -> None:
        table = Table(title="gpuferry demo", title_justify="left")
        table.add_column("step")
        table.add_column("seconds", justify="right")
        table.add_column("result")
        for outcome in self.outcomes:
            table.add_row(escape(outcome.name), f"{outcome.seconds:.1f}", escape(outcome.found))
        self.console.print(table)


def expect(condition: bool, message: str) -> None:
    """Raise StepFailedError with `message` unless `condition` holds."""
    if not condition:
        raise StepFailedError(message)
