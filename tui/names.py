"""The names behind ids, learnt from the appliance as they are met: people read `gpu-07`, not `server-01kb…`."""

from __future__ import annotations

from collections.abc import Iterable

from tui.appliance import Appliance
from tui.calls import get


class Names:
    """Ids of servers, clients and groups → names."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    async def learn(self, appliance: Appliance, ids: Iterable[str]) -> None:
        """Ask for those that are not known. May raise ApplianceError."""
        wanted = sorted({each for each in ids if each and each not in self._known})
        for start in range(0, len(wanted), 200):
            part = wanted[start : start + 200]
            told = await appliance.send(get("/v1/names", id=part))
            self._known.update({each: told.get(each, each) for each in part})

    def of(self, id_: str) -> str:
        """The name; the id itself while it is not known."""
        return self._known.get(id_, id_)

    def subject(self, subject: str) -> str:
        """A subject of events and readings with its name: `server-…/GPU-…` becomes `gpu-07/GPU-…`."""
        head, slash, tail = subject.partition("/")
        return f"{self.of(head)}{slash}{self.of(tail) if tail else ''}"
