"""A client's group, quotas and priority."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.validation import Integer
from textual.widgets import Button, Input, Label, Select, Static

from tui.calls import Call, Document, at, change
from tui.dialogs.dialog import CallDialog

FIELDS = {
    "max_gpus": "Most GPU slices at a time",
    "max_memory_mib": "Most memory at a time, MiB",
    "max_leases": "Most leases at a time",
}


class ClientDialog(CallDialog):
    """Empty quotas are unlimited."""

    DEFAULT_CSS = """
    ClientDialog .row { height: 1; margin-bottom: 1; }
    ClientDialog .row Label { width: 34; }
    ClientDialog .row Input { width: 1fr; border: none; height: 1; padding: 0 1; background: $panel; }
    ClientDialog Select { width: 1fr; }
    """

    def __init__(self, client: Document, groups: Sequence[Document]) -> None:
        super().__init__()
        self.client = client
        self.groups = groups

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = f"Client {self.client['name']}"
            with Horizontal(classes="row"):
                yield Label("Group")
                options = [(each["name"], each["id"]) for each in self.groups]
                yield Select(options, value=self.client["group_id"], allow_blank=False, id="group", compact=True)
            for name, label in FIELDS.items():
                with Horizontal(classes="row"):
                    yield Label(f"{label} (empty: unlimited)" if name == "max_gpus" else label)
                    value = self.client[name]
                    yield Input(
                        "" if value is None else str(value),
                        type="integer",
                        validators=[Integer(0, 2**31 - 1)],
                        valid_empty=True,
                        id=name,
                        compact=True,
                    )
            with Horizontal(classes="row"):
                yield Label("Priority, -1000 to 1000")
                yield Input(
                    str(self.client["priority"]),
                    type="integer",
                    validators=[Integer(-1000, 1000)],
                    id="priority",
                    compact=True,
                )
            yield Static(id="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Change", id="yes", variant="primary", disabled=not self.console.may_write)
                yield Button("Leave it", id="no")

    def on_mount(self) -> None:
        if not self.console.may_write:
            self.problem(f"Your token only reads (scope {self.console.scope}): this needs scope operator or admin.")

    def wanted(self) -> Call | None:
        body: Document = {}
        for name, label in {**FIELDS, "priority": "Priority"}.items():
            field = self.query_one(f"#{name}", Input)
            result = field.validate(field.value)
            if (result is not None and not result.is_valid) or (name == "priority" and not field.value):
                self.problem(f"{label}: {'; '.join(result.failure_descriptions) if result else 'a whole number'}")
                return None
            body[name] = int(field.value) if field.value else None
        body["group_id"] = self.query_one("#group", Select).value
        return change(self.client, at("clients", self.client["id"]), body)
