"""Forms that check as you type: fields with defaults, what is wrong said at once, the button only when all is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Input, Label, Select, SelectionList, Static, Switch
from textual.widgets.selection_list import Selection

from tui.calls import Call, Document
from tui.dialogs.dialog import Dialog

Values = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """`kind`: text, number, real, password, choice, several or switch. `check` gives what is wrong, or nothing.

    `choices` are (label, value); a number is within `least` and `most`; an empty `needed` field is wrong.
    """

    name: str
    label: str
    kind: str = "text"
    default: Any = ""
    choices: tuple[tuple[str, Any], ...] = ()
    least: float | None = None
    most: float | None = None
    needed: bool = False
    hint: str = ""
    check: Callable[[Any], str] | None = None

    def parse(self, given: Any) -> tuple[Any, str]:
        """(the value, what is wrong with it)."""
        if self.kind in ("number", "real"):
            text = str(given).strip()
            if not text:
                return None, f"{self.label}: a number is needed" if self.needed else ""
            try:
                value: Any = int(text) if self.kind == "number" else float(text)
            except ValueError:
                return None, f"{self.label}: {text!r} is no {'whole ' if self.kind == 'number' else ''}number"
            if self.least is not None and value < self.least:
                return value, f"{self.label}: at least {self.least:g}"
            if self.most is not None and value > self.most:
                return value, f"{self.label}: at most {self.most:g}"
        else:
            value = given.strip() if isinstance(given, str) and self.kind != "password" else given
            if self.needed and value in ("", None, [], ()):
                return value, f"{self.label}: is needed"
        return value, self.check(value) if self.check and value not in ("", None) else ""


class Form(Dialog[Any]):
    """Asks for fields. Subclasses say in `changed` what follows from them, and in `confirmed` what the button does."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+y", "copy", "Copy as command"),
        Binding("ctrl+s", "confirm", "Do it"),
    ]
    DEFAULT_CSS = """
    Form > .box { width: 90; }
    Form #fields { height: auto; max-height: 20; }
    Form .field { height: auto; min-height: 1; }
    Form .field > Label { width: 30; padding-right: 1; color: $foreground 80%; }
    Form .field > Input { width: 1fr; border: none; height: 1; padding: 0 1; background: $panel; }
    Form .field > Input.-wrong { background: $error 35%; }
    Form .field > Select { width: 1fr; }
    Form .field > Switch { border: none; height: 1; padding: 0; }
    Form .field > SelectionList { width: 1fr; height: auto; max-height: 5; border: none; padding: 0; }
    Form #intro { height: auto; padding-bottom: 1; }
    Form #notes { height: auto; max-height: 12; margin-top: 1; }
    """

    def __init__(self, title: str, intro: str, fields: Sequence[Field], label: str, scope: str = "operator") -> None:
        super().__init__()
        self.heading = title
        self.intro = intro
        self.fields = tuple(fields)
        self.label = label
        self.scope = scope
        self._sending = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = self.heading
            box.border_subtitle = "Ctrl+S does it, Ctrl+Y copies it as command, Esc leaves"
            intro = Static(self.intro, id="intro", markup=False)
            intro.display = bool(self.intro)
            yield intro
            with VerticalScroll(id="fields", can_focus=False):
                for field in self.fields:
                    with Horizontal(classes="field"):
                        yield Label(field.label)
                        yield self._widget(field)
            with VerticalScroll(id="notes", can_focus=False):
                yield Static(id="note")
            yield Static(id="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button(self.label, id="yes", variant="primary", disabled=True)
                yield Button("Leave it", id="no")

    def _widget(self, field: Field) -> Input | Select[Any] | SelectionList[Any] | Switch:
        id_ = f"field-{field.name}"
        if field.kind == "choice":
            values = [value for _, value in field.choices]
            default = field.default if field.default in values else Select.NULL
            return Select(
                list(field.choices), value=default, allow_blank=not field.needed or not values, id=id_, compact=True
            )
        if field.kind == "several":
            chosen = set(field.default or ())
            return SelectionList(*(Selection(label, value, value in chosen) for label, value in field.choices), id=id_)
        if field.kind == "switch":
            return Switch(bool(field.default), id=id_)
        return Input(
            "" if field.default is None else str(field.default),
            placeholder=field.hint,
            password=field.kind == "password",
            id=id_,
            compact=True,
            tooltip=field.hint or None,
        )

    def on_mount(self) -> None:
        self._check()

    # Values

    def _given(self, field: Field) -> Any:
        widget = self.query_one(f"#field-{field.name}")
        if isinstance(widget, Select):
            return None if widget.is_blank() else widget.value
        if isinstance(widget, SelectionList):
            return list(widget.selected)
        if isinstance(widget, (Input, Switch)):
            return widget.value
        raise TypeError(type(widget))

    def values(self) -> tuple[Values, list[str]]:
        """What is filled in, and what is wrong with it."""
        made: Values = {}
        wrong: list[str] = []
        for field in self.fields:
            value, problem = field.parse(self._given(field))
            made[field.name] = value
            if problem:
                wrong.append(problem)
            widget = self.query_one(f"#field-{field.name}")
            widget.set_class(bool(problem), "-wrong")
        return made, wrong

    @on(Input.Changed)
    @on(Select.Changed)
    @on(SelectionList.SelectedChanged)
    @on(Switch.Changed)
    def _changed(self) -> None:
        self._check()

    def _check(self) -> None:
        values, wrong = self.values()
        self.query_one("#yes", Button).disabled = bool(wrong) or not self.allowed
        if not self.allowed:
            self.problem(f"Your token has scope {self.console.scope}: this needs scope {self.scope}.")
        else:
            self.problem(wrong[0] if wrong else "")
        self.changed(values, wrong)

    @property
    def allowed(self) -> bool:
        return self.console.scope == "admin" or (self.console.may_write and self.scope == "operator")

    def changed(self, values: Values, wrong: list[str]) -> None:
        """Something was typed."""

    def calls(self, values: Values) -> list[Call]:
        """What the button sends."""
        raise NotImplementedError

    async def confirmed(self, values: Values) -> None:
        """Send the calls one after another; leave with the answers."""
        answers = []
        for call in self.calls(values):
            worked, answer = await self.send(call)
            if not worked:
                return
            answers.append(answer)
        self.dismiss(answers)

    # Keys

    @on(Button.Pressed, "#no")
    def _no(self) -> None:
        self.dismiss(None)

    @on(Button.Pressed, "#yes")
    def action_confirm(self) -> None:
        values, wrong = self.values()
        if not wrong and self.allowed and not self._sending:
            self._sending = True
            self._confirm(values)

    @work
    async def _confirm(self, values: Values) -> None:
        try:
            await self.confirmed(values)
        finally:
            self._sending = False

    def action_copy(self) -> None:
        values, wrong = self.values()
        if not wrong:
            self.console.copy("\n".join(call.commands(self.console.profile) for call in self.calls(values)))


class CallForm(Form):
    """A form that makes one call of its values."""

    def __init__(
        self,
        title: str,
        intro: str,
        fields: Sequence[Field],
        label: str,
        make: Callable[[Values], Call],
        scope: str = "operator",
    ) -> None:
        super().__init__(title, intro, fields, label, scope)
        self.make = make

    def calls(self, values: Values) -> list[Call]:
        return [self.make(values)]


def filled(values: Values) -> Document:
    """The values without those left empty."""
    return {name: value for name, value in values.items() if value not in ("", None, [], {})}
