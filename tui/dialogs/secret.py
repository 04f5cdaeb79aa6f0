"""A form whose answer holds a secret that is shown once: a token, a ticket."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from tui.calls import Call
from tui.dialogs.dialog import Dialog
from tui.dialogs.form import CallForm, Field, Values


class SecretDialog(Dialog[bool]):
    """Shows the secret until it is left."""

    DEFAULT_CSS = """
    SecretDialog TextArea { height: auto; max-height: 8; border: none; background: $panel; }
    """

    def __init__(self, title: str, secret: str) -> None:
        super().__init__()
        self.heading = title
        self.secret = secret

    def compose(self) -> ComposeResult:
        with Vertical(classes="box") as box:
            box.border_title = self.heading
            box.border_subtitle = "Esc leaves: it is not shown again"
            yield TextArea(self.secret, read_only=True, soft_wrap=True, show_line_numbers=False)
            yield Static("It is on the clipboard, where the terminal lets programs reach it.", classes="hint")
            yield Static(id="problem")

    def on_mount(self) -> None:
        self.app.copy_to_clipboard(self.secret)

    def action_leave(self) -> None:
        self.dismiss(True)


class SecretForm(CallForm):
    """Leaves for the secret's own dialog; `part` is the answer's field that holds it."""

    def __init__(
        self, title: str, intro: str, fields: Sequence[Field], label: str, make: Callable[[Values], Call], part: str
    ) -> None:
        super().__init__(title, intro, fields, label, make, "admin")
        self.part = part

    async def confirmed(self, values: Values) -> None:
        worked, answer = await self.send(self.make(values))
        if worked:
            await self.console.push_screen_wait(SecretDialog(self.heading, str(answer[self.part])))
            self.dismiss([True])
