"""What every tab is made of: it loads when it is looked at, again when an event concerns it, never twice at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, TabbedContent

from tui.appliance import Appliance, ApplianceError, Event
from tui.calls import Call
from tui.listing import Listing
from tui.themes import sign

if TYPE_CHECKING:
    from tui.app import ConsoleApp

SOON_S = 0.3
REST_S = 1.0
"""Between two loads of one pane at least, however many events come."""


class Pane(Vertical):
    """A tab's content. Subclasses fill `load`, and name the topics of the events that concern them."""

    TOPICS: ClassVar[frozenset[str]] = frozenset()
    TITLE: ClassVar[str] = ""
    LIVE_S: ClassVar[float | None] = None
    """Numbers no event tells of are read again so often, while the pane is looked at."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._stale = True
        self._loading = False
        self._again: Timer | None = None
        self.loads = 0
        """How often it was loaded; tests wait for it."""

    @property
    def console(self) -> ConsoleApp:
        return cast("ConsoleApp", self.app)

    @property
    def appliance(self) -> Appliance:
        return self.console.appliance

    @property
    def looked_at(self) -> bool:
        return self.console.is_running and self.console.current_pane is self

    def on_mount(self) -> None:
        if self.LIVE_S is not None:
            self.set_interval(self.LIVE_S, self._live)

    def _live(self) -> None:
        if self.looked_at and self.console.connected:
            self.refresh_soon(0.01)

    def heard(self, event: Event) -> None:
        """An event came."""
        if event.topic in self.TOPICS:
            self.refresh_soon()

    def shown(self) -> None:
        """The tab was chosen."""
        if self._stale:
            self.refresh_soon(0.01)

    def refresh_soon(self, seconds: float = SOON_S) -> None:
        """Load in a moment, if anybody looks; several wishes become one load."""
        self._stale = True
        if not self.looked_at or self._again is not None or self._loading:
            return
        self._again = self.set_timer(seconds, self._begin)

    def _begin(self) -> None:
        self._again = None
        if not self._loading and self.console.ready:
            self._loading = True
            self.run_worker(self._load(), exit_on_error=True)

    async def _load(self) -> None:
        self._stale = False
        try:
            await self.load()
            self.loads += 1
        except ApplianceError as failure:
            self._stale = True
            self.console.troubled(failure)
        except NoMatches:
            # The console is being closed: this pane's parts are gone already.
            if self.console.is_running:
                raise
        finally:
            self._loading = False
        if self._stale and self.looked_at and self.console.connected:
            self.refresh_soon(REST_S)

    async def load(self) -> None:
        """Read what is shown. May raise ApplianceError."""
        raise NotImplementedError

    def call_shown(self) -> Call | None:
        """The call that reads what is shown or chosen, for copying."""
        return None

    def focus_first(self) -> None:
        """Put the focus where the keys of the pane work."""
        for child in self.query("*"):
            if child.can_focus and child.display and not child.disabled and child.id != "words":
                child.focus()
                return

    @on(Listing.Wanted)
    def _look_again(self, message: Listing.Wanted) -> None:
        """The filter of a list was changed."""
        message.stop()
        self.refresh_soon(0.01)

    def state(self, state: str, label: str | None = None) -> Text:
        """A state with its sign, in the theme's colour."""
        mark, colour = sign(state)
        return Text(f"{mark} {label if label is not None else state}", style=self.console.colour(colour))

    def dim(self, text: str) -> Text:
        return Text(text, style="dim")


class PartsPane(Pane):
    """A tab with several lists, one of them shown; the tab `X-NAME` of the TabbedContent `PARTS` holds `NAME`."""

    PARTS: ClassVar[str] = ""

    @property
    def part(self) -> str:
        """The name of the list that is shown."""
        return self.query_one(f"#{self.PARTS}", TabbedContent).active.partition("-")[2]

    @property
    def listing(self) -> Listing:
        return self.query_one(f"#{self.part}", Listing)

    async def load(self) -> None:
        await self.listing.refill()

    @on(TabbedContent.TabActivated)
    def _part_chosen(self, message: TabbedContent.TabActivated) -> None:
        message.stop()
        self.refresh_soon(0.01)
        self.refresh_bindings()
        if self.looked_at:
            self.focus_first()

    def focus_first(self) -> None:
        self.listing.rows.focus()


class FilteredPane(Pane):
    """A tab whose content is filtered by one field, `#words`; `main` is what has the focus otherwise."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._typed = 0

    @property
    def main(self) -> Widget:
        raise NotImplementedError

    @property
    def words(self) -> str:
        return self.query_one("#words", Input).value.strip()

    def words_changed(self) -> None:
        """The filter is another one now."""
        self.refresh_soon(0.01)

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one("#words", Input).focus()

    def action_clear_filter(self) -> None:
        self.query_one("#words", Input).value = ""
        self.remove_class("-filtering")
        self.main.focus()

    @on(Input.Changed, "#words")
    def _type(self, message: Input.Changed) -> None:
        message.stop()
        self._typed += 1
        typed = self._typed
        self.set_timer(0.2, lambda: self.words_changed() if typed == self._typed else None)

    @on(Input.Submitted, "#words")
    def _keep(self, message: Input.Submitted) -> None:
        message.stop()
        self.set_class(bool(self.words), "-filtering")
        self.main.focus()

    def focus_first(self) -> None:
        self.main.focus()
