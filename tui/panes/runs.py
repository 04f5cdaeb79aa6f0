"""The tab Runs: provisioning runs as they go, each step with what it found and did; cancel, retry, roll back."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Log, ProgressBar

from tui import show
from tui.calls import Call, Document, at, get
from tui.dialogs.confirm import ConfirmDialog
from tui.dialogs.facts import FactsDialog
from tui.listing import Listing, Table
from tui.pane import Pane
from tui.rows import Column
from tui.told import Told, entitle

UNDER_WAY = ("queued", "running", "cancelling", "rolling-back")
TITLES = {
    "provision-server": "create server",
    "decommission-server": "decommission",
    "enable-client": "enable client",
    "disable-client": "disable client",
    "passthrough": "passthrough",
    "attach-pvrdma": "add PVRDMA",
    "upgrade-servers": "upgrade servers",
    "upgrade-clients": "upgrade clients",
    "accept-server": "acceptance test",
}
FINISHED = ("done", "skipped", "undone")


def title_of(run: Document) -> str:
    """What a run does, in the words of people."""
    return TITLES.get(str(run["kind"]), str(run["kind"]))


def part_done(run: Document) -> float:
    """How far a run is, 0 to 1: steps that are over, and the part of the one under way."""
    steps = run["steps"]
    if not steps:
        return 1.0 if run["state"] == "succeeded" else 0.0
    over = sum(each["state"] in FINISHED for each in steps)
    under_way = sum(each["progress"] or 0.0 for each in steps if each["state"] == "running")
    return min(1.0, float(over + under_way) / len(steps))


def step_now(run: Document) -> str:
    """The step that is under way, or that failed."""
    for each in run["steps"]:
        if each["state"] in ("running", "failed"):
            return str(each["title"])
    return ""


class RunsPane(Pane):
    """Runs."""

    TITLE = "Runs"
    TOPICS = frozenset({"run", "host-key"})
    LIVE_S = 3.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "ask('cancel')", "Cancel"),
        Binding("t", "ask('retry')", "Retry, resume"),
        Binding("b", "ask('roll-back')", "Roll back"),
        Binding("w", "only_now", "Under way only"),
    ]
    DEFAULT_CSS = """
    RunsPane > #runs { height: 2fr; min-height: 6; }
    RunsPane > #run { height: 3fr; border: round $panel; border-title-color: $primary; padding: 0 1; }
    RunsPane #head { height: 1; }
    RunsPane #told { width: 1fr; height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    RunsPane ProgressBar { width: auto; height: 1; }
    RunsPane ProgressBar Bar { width: 24; }
    RunsPane #why { height: auto; max-height: 5; color: $error; }
    RunsPane #detail { height: 1fr; }
    RunsPane #steps { width: 1fr; height: 3fr; }
    RunsPane #log { display: none; width: 1fr; height: 2fr; margin-top: 1; background: $surface; }
    """

    def __init__(self) -> None:
        super().__init__(id="runs-pane")
        self.only_now = False
        self._steps: list[tuple[str, ...]] = []

    def compose(self) -> ComposeResult:
        yield Listing(
            "Runs",
            [
                Column("State", lambda each: self.state(each["state"])),
                Column("Run", title_of),
                Column("Of", lambda each: each["subject"][:40]),
                Column("Done", lambda each: f"{show.bar(part_done(each), 10)} {part_done(each):>4.0%}"),
                Column("Step", lambda each: step_now(each)[:36]),
                Column("Took", lambda each: show.between(each["started_at"], each["ended_at"])),
                Column("Begun", lambda each: show.clock(each["created_at"]), wide=90),
                Column("By", lambda each: each["actor"].partition(" (")[0][:24], wide=110),
                Column("vCenter", lambda each: each["vcenter"] or "–", wide=120),
            ],
            self._runs,
            empty="no runs yet: start one in the tab vCenter",
            id="runs",
        )
        with Vertical(id="run"):
            with Horizontal(id="head"):
                yield Told(id="told")
                yield ProgressBar(total=1.0, show_eta=False)
            yield Told(id="why", markup=False)
            with Vertical(id="detail"):
                yield Table(id="steps", cursor_type="row", cell_padding=1)
                yield Log(id="log", auto_scroll=True, max_lines=2000)

    def on_mount(self) -> None:
        self.query_one("#steps", DataTable).add_columns("Step", "State", "Took", "Found → did")

    @property
    def listing(self) -> Listing:
        return self.query_one("#runs", Listing)

    def _live(self) -> None:
        # Every step is an event; what goes on within one is looked at only while something is under way.
        if any(each["state"] in UNDER_WAY for each in self.listing.documents.values()):
            super()._live()

    def _call(self, words: str = "") -> Call:
        return get("/v1/runs", subject=words, state=UNDER_WAY if self.only_now else None)

    async def _runs(self, words: str, limit: int, cursor: str | None) -> tuple[list[Document], str | None]:
        return await self.appliance.page(self._call(words), min(limit, 100), cursor)

    async def load(self) -> None:
        await self.listing.refill()

    @on(Listing.Chosen)
    def _show(self, message: Listing.Chosen) -> None:
        message.stop()
        self._show_run(message.document)

    def _show_run(self, run: Document | None) -> None:
        self.query_one("#run", Vertical).display = run is not None
        if run is None:
            return
        entitle(self.query_one("#run", Vertical), f"{title_of(run)} {run['subject']}", "")
        took = show.between(run["started_at"], run["ended_at"])
        told = Text.assemble(self.state(run["state"]), f"  {took}  {run['id']}")
        self.query_one("#told", Told).tell(told)
        self.query_one(ProgressBar).update(progress=part_done(run))
        why = self.query_one("#why", Told)
        why.tell(run["error"] + (f"\n→ {run['remedy']}" if run["remedy"] else ""))
        why.display = bool(run["error"])
        table = self.query_one("#steps", DataTable)
        row = table.cursor_row
        same = len(self._steps) == len(run["steps"]) and table.row_count == len(run["steps"])
        if not same:
            table.clear()
        keys = list(table.columns)
        made = []
        for index, step in enumerate(run["steps"]):
            told_step = step["found"] + (f" → {step['did']}" if step["did"] else "")
            state: Text = self.state(step["state"])
            if step["state"] == "running" and step["progress"] is not None:
                state = Text.assemble(state, f" {step['progress']:.0%}")
            if step["attempts"] > 1:
                state = Text.assemble(state, f" ×{step['attempts']}")
            cells = (step["title"], state, show.between(step["started_at"], step["ended_at"]), told_step)
            made.append(tuple(map(str, cells)))
            if not same:
                table.add_row(*cells, key=str(index))
            elif self._steps[index] != made[-1]:
                for key, cell in zip(keys, cells, strict=True):
                    table.update_cell(str(index), key, cell, update_width=True)
        self._steps = made
        if not same and made:
            running = [i for i, each in enumerate(run["steps"]) if each["state"] in ("running", "failed")]
            table.move_cursor(row=running[0] if running else min(row, len(made) - 1))
        self._show_log(run)

    def _show_log(self, run: Document) -> None:
        log = self.query_one("#log", Log)
        lines = [f"{step['title']}: {line}" for step in run["steps"] for line in step["log"]]
        if list(log.lines)[: len(lines)] != lines or len(log.lines) != len(lines):
            log.clear()
            log.write_lines(lines)

    def action_only_now(self) -> None:
        """Only runs under way, or all."""
        self.only_now = not self.only_now
        self.listing.begin_anew("Runs under way" if self.only_now else "Runs")
        self.refresh_soon(0.01)

    @work
    async def action_ask(self, what: str) -> None:
        """Cancel, retry or roll back the chosen run."""
        run = self.listing.chosen
        if run is None:
            return
        name = f"{title_of(run)} of {run['subject']}"
        text = {
            "cancel": f"The run {name} stops at its next safe place; what it did stays. Roll back takes it back.",
            "retry": f"The run {name} is carried out again: every step looks anew, and does only what is missing.",
            "roll-back": f"What the run {name} did is taken back, from the last step to the first.",
        }[what]
        label = {"cancel": "Cancel the run", "retry": "Retry", "roll-back": "Roll back"}[what]
        call = Call("POST", at("runs", run["id"], what), command=f"gpuferry runs {what} {run['id']}")
        dialog = ConfirmDialog(label, text, [call], label, danger=what != "retry")
        if await self.console.push_screen_wait(dialog):
            self.refresh_soon(0.01)

    @on(Listing.Opened)
    def _open(self, message: Listing.Opened) -> None:
        message.stop()
        run = message.document
        if run is None:
            return
        shown = {name: value for name, value in run.items() if name not in ("steps", "revision", "parameters")}
        given = run["parameters"].items()
        shown.update({f"parameter {name}": value for name, value in given if value not in ("", [])})
        shown["log"] = "\n".join(f"{step['title']}: {line}" for step in run["steps"] for line in step["log"])
        self.console.push_screen(FactsDialog("Run", shown, self.call_shown()))

    def call_shown(self) -> Call | None:
        chosen = self.listing.chosen
        if chosen is None:
            return replace(self._call(self.listing.words), command="gpuferry runs list")
        return Call("GET", at("runs", chosen["id"]), command=f"gpuferry runs show {chosen['id']}")

    def focus_first(self) -> None:
        self.listing.rows.focus()
