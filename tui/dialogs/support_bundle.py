"""Fetch a support bundle from the appliance into a file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Label, Static

from tui.calls import Call
from tui.dialogs.dialog import Dialog

CALL = Call("GET", "/v1/support-bundle", command="gpuferry appliance support-bundle bundle.tar.gz")


class SupportBundleDialog(Dialog[None]):
    """Asks where to put it."""

    def compose(self) -> ComposeResult:
        name = f"gpuferry-support-{datetime.now().astimezone():%Y%m%d-%H%M}.tar.gz"
        with Vertical(classes="box") as box:
            box.border_title = "Support bundle"
            yield Static(
                "What somebody who helps needs to know: versions, counts, events, audit log, servers, readings, "
                "leases. Keys, tokens and passwords are left out.",
                markup=False,
            )
            yield Label("File to write")
            yield Input(str(Path.cwd() / name), id="path")
            yield Static(id="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Fetch", id="yes", variant="primary")
                yield Button("Leave it", id="no")

    @on(Button.Pressed, "#no")
    def _no(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#yes")
    @on(Input.Submitted)
    @work(exclusive=True)
    async def _yes(self) -> None:
        path = Path(self.query_one("#path", Input).value).expanduser()
        if path.exists():
            self.problem(f"{path} is there already: name another file")
            return
        worked, content = await self.send(CALL)
        if not worked:
            return
        try:
            path.write_bytes(content)
            path.chmod(0o600)
        except OSError as failure:
            self.problem(f"{path} cannot be written: {failure}")
            return
        self.console.notify(f"{path}: {len(content) // 1024} KiB", title="Support bundle")
        self.dismiss(None)
