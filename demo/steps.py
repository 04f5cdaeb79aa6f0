"""Running the demo: named steps in order, each timed, stopping at the first that fails, and the summary at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
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
    vcenter: dict[str, str] = field(default_factory=dict)  # where the simulated vCenter is, and who may log in
    vcenter_id: str = ""
    url: str = ""  # the appliance's REST API
    token: str = ""
    client: str = ""  # the client VM's address
    traffic: list[str] = field(default_factory=list)  # what programs cost on the wire

    api: httpx.Client = field(default_factory=httpx.Client)

    def note_run(self, run: Any) -> None:
        """A provisioning run's steps, for the summary."""
        for step in run["steps"]:
            start, end = (datetime.fromisoformat(step[name]) for name in ("started_at", "ended_at"))
            said = (step["did"] or step["found"]).split("; ")[0][:70]
            self.outcomes.append(Outcome(f"  {run['subject']}: {step['title']}", (end - start).total_seconds(), said))

    def step(self, name: str, action: Callable[[Demo], str]) -> None:
        """Run one step; `action` returns a line on what it found. Raises StepFailedError."""
        self.console.print(f"[bold]==>[/bold] {escape(name)}")
        start = time.monotonic()
        place = len(self.outcomes)
        found = action(self)
        self.outcomes.insert(place, Outcome(name, time.monotonic() - start, found))
        self.console.print(f"    {escape(found)}")

    def run(self, *command: str, show: bool = False, shown: str = "", timeout: float = 300) -> str:
        """Run a command in the demo's folder and give its standard output. Raises StepFailedError when it fails."""
        self.console.print(f"    [dim]{escape(shown or '$ ' + ' '.join(command))}[/dim]")
        try:
            done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise StepFailedError(f"{command[0]} was still running after {timeout:.0f} s") from None
        if done.returncode != 0:
            raise StepFailedError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        if show:
            self.console.print(escape(done.stdout.rstrip()))
        return done.stdout

    def gpuferry(self, *arguments: str, show: bool = False, secret: str = "", timeout: float = 300) -> str:
        """Run `gpuferry ARGUMENTS` as a user would; `secret` is left out of what is shown."""
        said = " ".join(arguments).replace(secret, "...") if secret else " ".join(arguments)
        self.console.print(f"    [dim]$ gpuferry {escape(said)}[/dim]")
        done = subprocess.run(
            [*GPUFERRY, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode != 0:
            raise StepFailedError(f"gpuferry {said} ended with {done.returncode}:\n{done.stderr}")
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
        for line in self.traffic:
            self.console.print(line, markup=False)

    def tell_what_runs(self) -> None:
        """How to look around in what `--keep` leaves."""
        self.console.print(f"Left running; files in {self.work}", markup=False)
        if self.url:
            where = f"--url {self.url} --token-file {self.work / 'token'} --ca {self.work / 'site' / 'ca.pem'}"
            self.console.print(f"The console on it: gpuferry console {where}", markup=False)
        if self.client:
            key = self.work / "ssh_key"
            self.console.print(f"The client VM:     ssh -i {key} gpuferry@{self.client}", markup=False)


def expect(condition: bool, message: str) -> None:
    """Raise StepFailedError with `message` unless `condition` holds."""
    if not condition:
        raise StepFailedError(message)
