"""What every dialog is: a box in the middle; Esc leaves it; calls are sent in one place, failures said in the box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from textual import on, work
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui.appliance import Appliance, ApplianceError
from tui.calls import Call

if TYPE_CHECKING:
    from tui.app import ConsoleApp

Result = TypeVar("Result")


class Dialog(ModalScreen[Result]):
    """A modal screen. `#problem` shows what went wrong, in the dialog: nothing that was typed is lost."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]
    DEFAULT_CSS = """
    Dialog { align: center middle; }
    Dialog > .box {
        width: 76; max-width: 96%; height: auto; max-height: 94%;
        background: $surface; border: round $primary; border-title-color: $primary; padding: 0 1;
    }
    Dialog .-broad { width: 120; }
    Dialog #problem { color: $error; display: none; height: auto; }
    Dialog #problem.-there { display: block; }
    Dialog .buttons { height: auto; align-horizontal: right; margin-top: 1; }
    Dialog .buttons Button { margin-left: 1; }
    Dialog .hint { color: $foreground 60%; height: auto; }
    """

    @property
    def console(self) -> ConsoleApp:
        return cast("ConsoleApp", self.app)

    @property
    def appliance(self) -> Appliance:
        return self.console.appliance

    def action_leave(self) -> None:
        self.dismiss(None)

    def problem(self, text: str) -> None:
        """Say what is wrong; an empty text takes it back."""
        told = self.query_one("#problem", Static)
        told.update(text)
        told.set_class(bool(text), "-there")

    async def send(self, call: Call) -> tuple[bool, Any]:
        """(whether it worked, the answer); a failure is shown in the dialog."""
        try:
            answer = await self.appliance.send(call)
        except ApplianceError as failure:
            self.problem(str(failure))
            self.console.troubled(failure, told=True)
            return False, None
        self.problem("")
        return True, answer


class CallDialog(Dialog[bool]):
    """A dialog whose button `#yes` sends one call, made of what is filled in; the result is True when it was taken."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+y", "copy", "Copy as command")]

    def wanted(self) -> Call | None:
        """The call; None, said in the dialog, while something is wrong."""
        raise NotImplementedError

    @on(Button.Pressed, "#yes")
    @work
    async def _yes(self) -> None:
        call = self.wanted()
        if call is not None and (await self.send(call))[0]:
            self.dismiss(True)

    @on(Button.Pressed, "#no")
    def _no(self) -> None:
        self.dismiss(False)

    def action_copy(self) -> None:
        call = self.wanted()
        if call is not None:
            self.console.copy(call.commands(self.console.profile))
