"""The command palette (Ctrl+P): every tab, every key of the tab that is shown, servers and clients by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui.appliance import ApplianceError
from tui.calls import get
from tui.dialogs.server import ServerDialog

if TYPE_CHECKING:
    from tui.app import ConsoleApp


class ConsoleCommands(Provider):
    """What the console can do, by name."""

    @property
    def console(self) -> ConsoleApp:
        return cast("ConsoleApp", self.app)

    def _commands(self) -> Iterator[tuple[str, str, Callable[[], Any]]]:
        for number, pane in enumerate(self.console.tabs):
            yield f"Go to {pane.TITLE}", "A tab", partial(self.console.action_tab, number)
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if isinstance(binding, Binding) and enabled and binding.show and binding.description:
                name = f"{binding.description}"
                help_text = f"Key {binding.key_display or binding.key} here"
                yield name, help_text, partial(self.console.run_action, binding.action, node)
        yield "Copy as command", "The call that reads what is shown", self.console.action_copy_command
        yield "Connect to another appliance", "Address, CA file and token", partial(self.console.ask_for_login, "")
        yield "Explain the words", "Slice, lease, session, run, drain, …", self.console.action_help

    async def discover(self) -> Hits:
        for name, text, action in self._commands():
            yield DiscoveryHit(name, action, help=text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, text, action in self._commands():
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), action, help=text)
        if not self.console.ready or len(query) < 2:
            return
        try:
            servers, _ = await self.console.appliance.page(get("/v1/pool/servers", words=query), 10, None)
        except ApplianceError:
            return
        for each in servers:
            name = f"GPU server {each['name']}"
            score = matcher.match(name)
            if score > 0:
                opened = partial(self.console.push_screen, ServerDialog(each["id"], None))
                yield Hit(score, matcher.highlight(name), opened, help=f"{each['gpus']} GPUs, {each['state']}")
