"""Starting runs: while you type, the appliance looks what each step would find and do; you say when it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text
from textual import work
from textual.widgets import Button, Static

from tui.appliance import ApplianceError, RefusedError
from tui.calls import Call, Document, start_run
from tui.dialogs.form import Field, Form, Values
from tui.themes import sign

LOOK_AFTER_S = 0.6


class RunForm(Form):
    """`make` gives the runs (kind and parameters) that the values mean; the first is tried as a dry run."""

    def __init__(
        self, title: str, intro: str, fields: Sequence[Field], label: str, make: Callable[[Values], list[Document]]
    ) -> None:
        super().__init__(title, intro, fields, label)
        self.make = make
        self._tried: Document | None = None
        self._typed = 0
        self.previews = 0
        """How many dry runs were shown; tests wait for it."""

    def calls(self, values: Values) -> list[Call]:
        return [start_run(each["kind"], each["parameters"]) for each in self.make(values)]

    def changed(self, values: Values, wrong: list[str]) -> None:
        if wrong:
            return
        runs = self.make(values)
        if not runs or runs[0] == self._tried:
            return
        self._typed += 1
        typed = self._typed
        self.set_timer(LOOK_AFTER_S, lambda: self._look(typed, runs))

    def _look(self, typed: int, runs: list[Document]) -> None:
        if typed == self._typed and self.allowed and not self._sending:
            self._tried = runs[0]
            self.query_one("#note", Static).update(Text("The appliance looks what would be done…", style="dim"))
            self._try(typed, runs)

    @work(exclusive=True, group="dry-run")  # of a group of its own: it must not cancel the start of the run itself
    async def _try(self, typed: int, runs: list[Document]) -> None:
        call = Call("POST", "/v1/runs", body={**runs[0], "dry_run": True})
        note = self.query_one("#note", Static)
        try:
            run = await self.appliance.send(call)
        except RefusedError as refused:
            note.update(Text(f"✖ {refused}", style=self.console.colour("error")))
            self.query_one("#yes", Button).disabled = True
            return
        except ApplianceError as failure:
            note.update(Text(str(failure), style=self.console.colour("error")))
            self.console.troubled(failure, told=True)
            return
        if typed == self._typed:
            note.update(self._plan(run, len(runs)))
            self.previews += 1

    def _plan(self, run: Document, count: int) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(ratio=1)
        title = "Dry run" if count == 1 else f"Dry run of the first of {count}"
        table.add_row("", Text(title, style=self.console.colour("primary")), "what it found → would do")
        for step in run["steps"]:
            mark, colour = sign("skipped" if step["state"] == "skipped" else step["state"])
            told = step["found"] or "–"
            if step["did"]:
                told += f" → {step['did']}"
            table.add_row(Text(mark, style=self.console.colour(colour)), step["title"], told)
        if run["error"]:
            table.add_row(Text("✖", style=self.console.colour("error")), "would fail", run["error"])
            if run["remedy"]:
                table.add_row("", "", f"→ {run['remedy']}")
        return table
