"""What all `gpuferry vcenter` subcommands share: options, opening a session, tables or JSON, progress bars,
confirmation.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from vcenter import stored
from vcenter.errors import InvalidRequest, VcenterError
from vcenter.plan import Plan
from vcenter.session import Session
from vcenter.tasks import ProgressEvent

VcenterName = Annotated[str, typer.Option("--vcenter", "-v", help="Which of the vCenters that were added.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show exactly what would change, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def out() -> Console:
    return Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 400)


def err() -> Console:
    return Console(stderr=True, soft_wrap=True)


def plain(value: Any) -> Any:
    """Any of our data as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def write_json(value: Any) -> None:
    sys.stdout.write(json.dumps(plain(value), indent=2, sort_keys=False) + "\n")


def write_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """A table, or the sentence `empty` when there is nothing to show."""
    if not rows:
        out().print(empty)
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out().print(table)


@contextlib.contextmanager
def session(name: str) -> Iterator[Session]:
    """A session with the chosen vCenter; the password is asked for when it is stored nowhere."""
    entry = stored.choose(name)
    password = stored.password_of(entry)
    if password is None:
        if not sys.stdin.isatty():
            raise InvalidRequest(
                f"The password of {entry.user} is not stored, and there is nobody to ask.",
                object_name=entry.name,
                remedy=f"Set {stored.PASSWORD_VARIABLE}, or add the vCenter again with --password-file.",
            )
        password = str(typer.prompt(f"Password of {entry.user} at {entry.host}", hide_input=True, err=True))
    with Session(entry.endpoint, password) as opened:
        yield opened


def show_plan(plan: Plan, as_json: bool, *, dry_run: bool) -> None:
    """The plan for people on standard error (standard output in a dry run), or as JSON in a dry run."""
    if as_json:
        if dry_run:
            write_json(plan.as_dict())
        return
    console = out() if dry_run else err()
    if plan.empty:
        console.print(f"{plan.object_name}: nothing to do.", highlight=False)
    for change in plan.changes:
        sign = "[green]+[/]" if not change.before else "[red]-[/]" if not change.after else "[yellow]~[/]"
        console.print(f"{sign} ", end="")
        console.print(str(change), markup=False, highlight=False)
    for number, step in enumerate(plan.steps, 1):
        console.print(f"  {number}. {step}", markup=False, highlight=False)
    for warning in plan.warnings:
        console.print("[yellow]warning:[/] ", end="")
        console.print(warning, markup=False, highlight=False)


def confirmed(plan: Plan, question: str, yes: bool) -> bool:
    """Whether to go on: nothing to ask for an empty plan; without a terminal only --yes is consent."""
    if plan.empty:
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidRequest("This changes things, and there is nobody to ask.", remedy="Repeat with --yes.")
    return bool(typer.confirm(question, err=True))


def carry_out(
    plan: Plan,
    apply: Callable[[Callable[[ProgressEvent], None]], object],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    question: str = "Go on?",
) -> None:
    """Show a plan, ask, apply it with progress bars (`apply` gets their callback), and write JSON where it is wanted.

    Raises InvalidRequest without a terminal and without --yes, and whatever `apply` raises.
    """
    show_plan(plan, as_json, dry_run=dry_run)
    applied = not dry_run and confirmed(plan, question, yes)
    if applied:
        with progress_bars() as bars:
            apply(bars)
    if as_json and not dry_run:
        write_json({**plan.as_dict(), "applied": applied})


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[ProgressEvent], None]]:
    """A bar per step on a terminal, a line per step otherwise; always on standard error."""
    console = err()
    if not console.is_terminal:
        last: list[str] = []

        def line(event: ProgressEvent) -> None:
            key = f"{event.object_name}: {event.step}" + (f": {event.message}" if event.message else "")
            if event.percent in (None, 100) and last != [key]:
                last[:] = [key]
                console.print(key + (" done" if event.percent == 100 else ""), markup=False, highlight=False)

        yield line
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        known: dict[tuple[str, str], TaskID] = {}

        def bar(event: ProgressEvent) -> None:
            key = (event.object_name, event.step)
            words = f"{event.object_name}: {event.step}" + (f" ({event.message})" if event.message else "")
            if key not in known:
                known[key] = bars.add_task(words, total=None)
            if event.percent is None:
                bars.update(known[key], description=words)
            else:
                bars.update(known[key], description=words, total=100, completed=event.percent)

        yield bar


def write_error(error: VcenterError, as_json: bool) -> None:
    """The error on standard error, and as JSON on standard output when that was asked for."""
    if as_json:
        write_json(error.as_dict())
    console = err()
    console.print("[bold red]gpuferry vcenter:[/] ", end="")
    text = str(error)
    console.print(text.removesuffix(error.remedy).rstrip(), markup=False, highlight=False)
    if error.remedy:
        console.print("[bold]What to do:[/] ", end="")
        console.print(error.remedy, markup=False, highlight=False)
