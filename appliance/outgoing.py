"""What follows from decisions once they are written: orders to daemons, news to clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from appliance import metrics
from appliance.ledger import Ledger
from appliance.live import (
    ClientNews,
    DrainChanged,
    Effect,
    KeyChanged,
    LiveLease,
    PrepareOrder,
    ReleaseOrder,
    RenewKeyOrder,
    ReportWanted,
    UpgradeOrder,
)
from appliance.presence import Presence
from appliance.site import Site
from appliance.state.database import Office
from appliance.state.models import ServerState
from gpuserver.protocol.control import messages
from gpuserver.protocol.control.codec import encode, printable


class Outgoing:
    """Turns effects into messages. An order that does not arrive is repeated when its daemon reports the next time."""

    def __init__(
        self, site: Site, office: Office, ledger: Ledger, presence: Presence, send: Callable[[bytes, bytes], bool]
    ) -> None:
        self.site = site
        self.office = office
        self.ledger = ledger
        self.presence = presence
        self._send = send
        self.requesters: dict[str, str] = {}
        """Lease → the client process that asked for it, where another one keeps it."""

    def say_drain(self, server: str) -> None:
        left = self.ledger.drain_by.get(server, self.ledger.clock()) - self.ledger.clock()
        active = self.ledger.wanted.get(server) is not ServerState.ACTIVE
        self.to_server(server, messages.Drain(self.office.epoch, active, max(0.0, left)))

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, PrepareOrder):
            self.to_server(effect.server, self._prepare(effect))
        elif isinstance(effect, ReleaseOrder):
            self.to_server(
                effect.server,
                messages.Release(effect.lease, effect.fence, self.office.epoch, printable(effect.reason)),
            )
        elif isinstance(effect, DrainChanged):
            self.say_drain(effect.server)
        elif isinstance(effect, UpgradeOrder):
            url = f"{self.site.config.api_url}/v1/bundles/{effect.version}"
            self._to_all(self.presence.routes_of(effect.peer), messages.Upgrade(self.office.epoch, effect.version, url))
        elif isinstance(effect, RenewKeyOrder):
            self._to_all(self.presence.routes_of(effect.peer), messages.RenewKey(self.office.epoch))
        elif isinstance(effect, KeyChanged):
            self._to_all(self.presence.every_route(effect.peer), messages.KeyRenewed(self.office.epoch))
        elif isinstance(effect, ReportWanted):
            self.to_server(effect.server, messages.Report(self.office.epoch))
        else:
            self._tell(effect)

    def _prepare(self, order: PrepareOrder) -> messages.Prepare:
        lease = order.lease
        return messages.Prepare(
            lease=lease.id,
            fence=order.fence,
            epoch=self.office.epoch,
            slices=self._slices(lease, order.server),
            secret=self.site.session_secret(lease.id, order.server, order.fence),
            client=lease.member.id,
            trace=lease.trace,
        )

    @staticmethod
    def _slices(lease: LiveLease, server: str) -> tuple[messages.SliceOrder, ...]:
        return tuple(
            messages.SliceOrder(each.gpu, each.ordinal, each.memory_mib, each.compute) for each in lease.on(server)
        )

    def to_server(self, server: str, content: Any) -> None:
        """Send an order; one that does not arrive is repeated when the daemon reports the next time."""
        route = self.presence.route_to_server(server)
        if route is not None:
            self._send(route, encode(content))

    def _to_all(self, routes: list[bytes], content: Any) -> None:
        for route in routes:
            self._send(route, encode(content))

    def _tell(self, news: ClientNews) -> None:
        lease = news.lease
        if news.kind == "granted":
            metrics.WAITED.observe(max(0.0, time.time() - lease.queued_at))
            content: Any = self.granted(lease)
        elif news.kind == "queued":
            content = messages.Queued(lease.request, lease.id, lease.position, printable(lease.reason))
        elif news.kind == "ended":
            metrics.ENDS.inc()
            content = messages.LeaseEnded(lease.request, lease.id, printable(news.text))
        else:
            content = messages.Notice(lease.id, printable(news.text), news.seconds)
        for instance in {lease.keeper, self.requesters.get(lease.id, lease.keeper)}:
            route = self.presence.route_to(lease.member.id, instance)
            if route is not None:
                self._send(route, encode(content))
        if news.kind == "ended":
            self.requesters.pop(lease.id, None)

    def granted(self, lease: LiveLease) -> messages.Granted:
        """What a client needs to use its lease."""
        grants = []
        for id_ in lease.servers:
            server = self.ledger.pool.servers[id_]
            secret = self.site.session_secret(lease.id, id_, lease.fence)
            grants.append(messages.Grant(id_, server.name, server.address, secret, self._slices(lease, id_)))
        left = None if lease.expires_at is None else max(0.0, lease.expires_at - time.time())
        return messages.Granted(lease.request, lease.id, lease.fence, tuple(grants), left)
