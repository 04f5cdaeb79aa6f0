"""Connections to the vCenters of the site: one session each, and its inventory kept live by vCenter itself.

Every appliance process follows every vCenter, so that each can answer from memory. A vCenter that is away is tried
again for as long as it is configured; what was known last stays, marked stale.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import Engine, select

from appliance.site import Site, SiteError
from appliance.state.database import DatabaseGoneError, reading
from appliance.state.models import VCenter, now
from vcenter.certificate import Trust
from vcenter.errors import Unreachable, VcenterError
from vcenter.inventory import Inventory
from vcenter.live import LiveInventory
from vcenter.session import Endpoint, Session
from vcenter.tags import Tag, Tagged, wishes

log = structlog.get_logger(__name__)
LOOK_S = 1.0
"""How often added, changed and removed vCenters are looked for."""
PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class NoSuchVcenterError(Exception):
    """The site has no vCenter of this name or id."""


@dataclass(frozen=True)
class Seen:
    """The last inventory of a vCenter: as of `at`, `stale` when vCenter is away since."""

    inventory: Inventory
    at: datetime
    stale: bool


class Followed:
    """One vCenter: its session and its live inventory, in a thread that keeps them up."""

    def __init__(self, row: VCenter, password: Callable[[], str], on_change: Callable[[str], None]) -> None:
        self.id, self.name, self.revision = row.id, row.name, row.revision
        self.endpoint = Endpoint.parse(
            row.address, row.username, Trust(thumbprint=row.fingerprint) if row.fingerprint else Trust()
        )
        self.error: VcenterError | None = None
        self._password = password
        self._on_change = on_change
        self._live: LiveInventory | None = None
        self._session: Session | None = None
        self._at: datetime | None = None
        self._tags: list[Tagged] = []
        self.tags_known: frozenset[Tag] = frozenset()
        """Which of our tags this vCenter has defined, as of the last look."""
        self._opening = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"vcenter-{row.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._live is not None:
            self._live.stop()
        self._thread.join(20)
        if self._session is not None:
            self._session.close()

    def session(self) -> Session:
        """The session, opened when it is not yet. Raises VcenterError."""
        with self._opening:
            if self._session is None:
                self._session = Session(self.endpoint, self._password)
            return self._session

    def seen(self) -> Seen | None:
        """The inventory; None before the first."""
        at = self._at  # before the snapshot: whoever knows this moment's inventory shall not miss what came after it
        if self._live is None or at is None:
            return None
        return Seen(self._live.snapshot(), at, self._live.stale)

    def tags(self) -> list[Tagged]:
        """Who bears our tags, as of the last look."""
        return self._tags

    def read_tags(self) -> list[Tagged]:
        """Ask vCenter who bears our tags. Raises VcenterError."""
        self.tags_known, self._tags = wishes(self.session())
        return self._tags

    def _changed(self, _touched: frozenset[str]) -> None:
        self._at = now()
        self._on_change(self.id)

    def _follow(self) -> None:
        pause = PAUSE_S
        while not self._stop.is_set():
            try:
                live = LiveInventory(self.session(), self._changed)
                live.start()
                self._live, self._at, self.error = live, now(), None
                with contextlib.suppress(VcenterError):
                    self.read_tags()
                self._on_change(self.id)
                log.info("following", vcenter=self.name)
                self._stop.wait()
                return
            except VcenterError as error:
                if self.error is None or self.error.what != error.what:
                    log.warning("vcenter-away", vcenter=self.name, error=str(error))
                self.error = error
                self._stop.wait(pause)
                pause = min(LONGEST_PAUSE_S, pause * 2)


class Vcenters:
    """All vCenters of the site. `on_change(id)` is called, from any thread, when the inventory of one changed."""

    def __init__(self, site: Site, engine: Engine, on_change: Callable[[str], None] = lambda _id: None) -> None:
        self.site = site
        self.engine = engine
        self.on_change = on_change
        self._followed: dict[str, Followed] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="vcenters", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(20)
        with self._lock:
            followed, self._followed = list(self._followed.values()), {}
        for each in followed:
            each.stop()

    def wake(self) -> None:
        """A vCenter was added, changed or removed."""
        self._wake.set()

    def all(self) -> list[Followed]:
        with self._lock:
            return list(self._followed.values())

    def find(self, name_or_id: str) -> Followed:
        """Raises NoSuchVcenterError; a vCenter that was just added is taken in at once."""
        for again in (False, True):
            if again:
                self.refresh()
            with self._lock:
                for each in self._followed.values():
                    if name_or_id in (each.id, each.name):
                        return each
        raise NoSuchVcenterError(f"there is no vCenter {name_or_id!r}: add it with POST /v1/vcenters")

    def session(self, name_or_id: str) -> Session:
        """Raises NoSuchVcenterError or VcenterError."""
        return self.find(name_or_id).session()

    def refresh(self) -> None:
        """Follow what is configured now, and nothing else."""
        with reading(self.engine) as session:
            rows = {row.id: row for row in session.scalars(select(VCenter))}
            session.expunge_all()
        gone: list[Followed] = []
        with self._lock:
            for id_, each in list(self._followed.items()):
                row = rows.get(id_)
                if row is None or row.revision != each.revision:
                    gone.append(self._followed.pop(id_))
            for id_, row in rows.items():
                if id_ not in self._followed and not self._stop.is_set():
                    fresh = Followed(row, self._password_of(row), self._changed)
                    self._followed[id_] = fresh
                    fresh.start()
        for each in gone:
            each.stop()

    def _changed(self, vcenter: str) -> None:
        self.on_change(vcenter)

    def _password_of(self, row: VCenter) -> Callable[[], str]:
        sealed, name = row.sealed_password, row.name

        def unseal() -> str:
            try:
                return self.site.unseal(sealed)
            except SiteError as wrong:
                raise Unreachable(str(wrong), object_name=name, remedy="Set the vCenter's password again.") from None

        return unseal

    def _keep_up(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
            except (DatabaseGoneError, ValueError) as failure:
                log.warning("vcenters-not-read", error=str(failure))
            self._wake.wait(LOOK_S)
            self._wake.clear()
