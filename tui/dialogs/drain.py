"""Take a GPU server out of service, with a deadline for the leases on it, or put it back."""

from __future__ import annotations

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.validation import Integer
from textual.widgets import Button, Input, Label, RadioButton, RadioSet, Static

from tui import show
from tui.calls import Call, Document, at, change, get
from tui.dialogs.dialog import CallDialog

CHOICES = {
    "active": "In service: new leases may be placed on it",
    "draining": "Drain: no new leases; maintenance at the deadline",
    "maintenance": "Maintenance now: its leases end at once",
}


class DrainDialog(CallDialog):
    """The state an operator wants of a server."""

    DEFAULT_CSS = """
    DrainDialog RadioSet { width: 100%; border: none; }
    DrainDialog RadioSet:focus { border: none; }
    DrainDialog Input { width: 20; }
    DrainDialog .row { height: auto; }
    DrainDialog .row Label { padding: 1 1; }
    """

    def __init__(self, server: str) -> None:
        super().__init__()
        self.server = server
        self.document: Document | None = None
        self.leases = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = "Service"
            yield Static("…", id="about", markup=False)
            with RadioSet():
                for state, text in CHOICES.items():
                    yield RadioButton(text, value=state == "draining", name=state)
            with Horizontal(classes="row"):
                yield Label("Deadline in minutes")
                yield Input("60", id="minutes", type="integer", validators=[Integer(0, 43_200)])
            yield Static(id="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Do it", id="yes", variant="primary", disabled=True)
                yield Button("Leave it", id="no")

    def on_mount(self) -> None:
        self._read()

    @work
    async def _read(self) -> None:
        worked, document = await self.send(Call("GET", at("servers", self.server)))
        if not worked:
            return
        worked, slices = await self.send(get("/v1/slices", server=self.server, state="prepared", limit=500))
        if not worked:
            return
        self.document = document
        leases = sorted({each["lease_id"] for each in slices["items"]})
        self.leases = len(leases)
        text = f"{document['name']} is {document['state']}; it holds {show.counted(self.leases, 'lease')}."
        self.query_one("#about", Static).update(text)
        if self.console.may_write:
            self.query_one("#yes", Button).disabled = False
        else:
            self.problem(f"Your token only reads (scope {self.console.scope}): this needs scope operator or admin.")

    def wanted(self) -> Call | None:
        pressed = self.query_one(RadioSet).pressed_button
        field = self.query_one("#minutes", Input)
        if self.document is None or pressed is None:
            return None
        state = str(pressed.name)
        body: Document = {"state": state}
        if state == "draining":
            checked = field.validate(field.value)
            if not field.value or (checked is not None and not checked.is_valid):
                self.problem("The deadline is a number of minutes from 0 to 43200 (30 days).")
                return None
            body["drain_deadline_s"] = int(field.value) * 60
        return change(self.document, at("servers", self.server), body)
