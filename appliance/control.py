"""The appliance's side of every conversation with daemons and agents, and the thread in which decisions are made.

One turn of the loop: take what has arrived, answer heartbeats from memory, put everything that changes the pool into
one transaction, and after its commit send what follows from it. So a burst of requests costs one commit, and nobody is
told what was not written.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from appliance import health, metrics, presence, renewal
from appliance.books import LedgerError
from appliance.bus import Bus, Incoming, Knock, Peer
from appliance.changes import ReportedGpu, apply_changes, server_reported
from appliance.deadlines import tick
from appliance.feasibility import RequestRefusedError
from appliance.filters import FilterError, parse_filters
from appliance.ledger import Ledger
from appliance.outgoing import Outgoing
from appliance.peers import Directory, enrol_together
from appliance.placement import RequestError, Shape
from appliance.pool import OvercommittedError
from appliance.questions import Questions
from appliance.site import Site
from appliance.state.database import DatabaseGoneError, DeposedError, Office
from appliance.state.models import ServerState
from appliance.telemetry import Telemetry
from gpuserver.protocol.control import messages
from gpuserver.protocol.control.codec import MalformedMessageError, decode, encode, printable
from gpuserver.protocol.version import own_version

log = structlog.get_logger(__name__)
TICK_S = 1.0
LOOK_FOR_CHANGES_S = 0.25
FLUSH_S = 0.03
"""Within what time the confirmations of daemons are written, if no decision takes them along before."""
REFRESH_KEYS_S = 5.0
MEASURE_S = 5.0
"""How often notes of other appliance processes are looked for; those of this process wake the loop."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A message that changes the pool, and when it came (monotonic seconds)."""

    source: Incoming
    content: Any
    at: float


class ControlLoop:
    """`start()`, `stop()`; `wake()` after writing something the ledger must take in."""

    def __init__(self, site: Site, engine: Engine, holder: str) -> None:
        config = site.config
        self.site = site
        self.engine = engine
        self.office = Office(engine, holder, config.control_endpoint)
        self.ledger = Ledger(engine, self.office)
        self.directory = Directory(engine)
        listen = f"tcp://{config.listen}:"
        self.bus = Bus(
            site.curve_secret, f"{listen}{config.control_port}", f"{listen}{config.enrol_port}", self._find_peer
        )
        self.presence = presence.Presence()
        self.instances = presence.Instances(engine, holder, config.control_endpoint, config.api_url)
        self.observed = health.Observed()
        self.telemetry = Telemetry()
        self.questions = Questions(engine, self._later)
        self.renewals = renewal.Renewals()
        self.outgoing = Outgoing(site, self.office, self.ledger, self.presence, self.bus.send)
        self.leading = False
        self.trouble = ""
        """Why nothing can be decided now; empty when it can."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._posted: list[Callable[[], None]] = []
        self._posted_lock = threading.Lock()
        self._tick_at = 0.0
        self._changes_at = 0.0
        self._flush_at = math.inf
        self._turn_at = time.monotonic()
        self._refresh = True
        self._refresh_at = 0.0
        self._measure_at = 0.0

    # The thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the turn under way, resign the office and close the sockets."""
        self._stopping.set()
        self.bus.wake()
        self._thread.join(30)
        self.questions.close()

    def wake(self, keys: bool = False) -> None:
        """Something was written that must be taken in now, `keys`: about who may speak. From any thread."""
        self._refresh = self._refresh or keys
        self._changes_at = 0.0
        self.bus.wake()

    def ask_to_observe(self, peer: str | None) -> int:
        """Have a peer, or all, measure their health now; how many were asked. From any thread."""
        routes = self.presence.routes_of(peer)
        order = encode(messages.Observe(self.office.epoch))

        def send() -> None:
            for route in routes:
                self.bus.send(route, order)

        self._later(send)
        return len(routes)

    def _later(self, action: Callable[[], None]) -> None:
        """Run an action in the loop's thread; from any thread."""
        with self._posted_lock:
            self._posted.append(action)
        self.bus.wake()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
            self._guarded(self.office.close)
            if self.leading:
                self._guarded(self.office.resign)
        except Exception:
            log.exception("control-loop-ended")
            raise
        finally:
            self._guarded(self.instances.leave)
            self.bus.close()

    def _turn(self) -> None:
        now = time.monotonic()
        soon = min(self._tick_at, self._changes_at, self._flush_at) - now if self.leading else self._tick_at - now
        incoming, knocks, _ = self.bus.wait(min(max(soon, 0.0), TICK_S))
        now = time.monotonic()
        if now - self._turn_at > 2 * TICK_S:
            # This process slept (a suspended VM, a stuck disk): silence of others in that time proves nothing.
            self.presence.forgive(now)
        self._turn_at = now
        with self._posted_lock:
            posted, self._posted = self._posted, []
        for action in posted:
            action()
        if knocks:
            self._enrol(knocks)
        decisions = [each for each in (self._read(source, now) for source in incoming) if each is not None]
        ticking = now >= self._tick_at
        if ticking:
            self._tick_at = now + TICK_S
            self._hold_office(now)
        if self._refresh or self.directory.stale:
            self._refresh = False
            self._guarded(self.directory.refresh)
        due = ticking or now >= min(self._changes_at, self._flush_at)
        if self.leading and (decisions or due):
            if not due and self._only_confirm(decisions):
                self._flush_at = min(self._flush_at, now + FLUSH_S)
                self._confirm(decisions)
            else:
                self._decide(decisions, ticking, now)
        elif decisions:
            for each in decisions:
                self._decline(each)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Do something with the database outside the ledger; its being away is noted, not fatal."""
        try:
            return action()
        except (DatabaseGoneError, SQLAlchemyError) as failure:
            self._in_trouble("database", failure)
            return None

    def _find_peer(self, key: str) -> Peer | None:
        found: Peer | None = self._guarded(lambda: self.directory.find(key))
        return found

    def _in_trouble(self, why: str, failure: Exception) -> None:
        metrics.DATABASE.labels(why).inc()
        if self.trouble != str(failure):
            log.error("cannot-decide", why=why, error=str(failure))
        self.trouble = str(failure)

    # Office

    def _hold_office(self, now: float) -> None:
        held = self._guarded(self.office.campaign)
        known = self.instances.endpoints
        self._guarded(self.instances.renew)
        if self.instances.endpoints != known:
            # Peers learn from the answer to their Hello where all appliance processes are.
            self._ask_for_reports()
        if self.instances.several and now >= self._refresh_at:
            # Another process may have revoked keys.
            self._refresh, self._refresh_at = True, now + REFRESH_KEYS_S
        if held is False and self.leading:
            self._step_down("another appliance process decides now")
        elif held and (not self.leading or not self.ledger.loaded):
            self._take_over(now)
        metrics.LEADER.set(self.leading)
        metrics.EPOCH.set(self.office.epoch)
        metrics.REFUSED.set(self.bus.refused)

    def _take_over(self, now: float) -> None:
        try:
            self.ledger.load()
        except (DatabaseGoneError, DeposedError, SQLAlchemyError, OvercommittedError, FilterError) as failure:
            self._in_trouble("load", failure)
            self.leading = False
            return
        self.leading, self.trouble = True, ""
        # Hundreds of thousands of leases need not be walked again by every garbage collection.
        gc.collect()
        gc.freeze()
        self.presence.expect(self.ledger.pool.servers, self.ledger.by_keeper, now)
        log.info(
            "deciding", epoch=self.office.epoch, leases=len(self.ledger.leases), servers=len(self.ledger.pool.servers)
        )
        self._ask_for_reports()

    def _ask_for_reports(self) -> None:
        report = encode(messages.Report(self.office.epoch))
        for route in self.presence.every_route():
            self.bus.send(route, report)

    def _step_down(self, why: str) -> None:
        log.warning("not-deciding-any-more", why=why)
        self.leading = False
        self.ledger.loaded = False

    # What arrives

    def _enrol(self, knocks: list[Knock]) -> None:
        asked: list[tuple[Knock, messages.Enrol]] = []
        for knock in knocks:
            try:
                wanted = decode(knock.frame)
                if isinstance(wanted, messages.Enrol):
                    asked.append((knock, wanted))
                    continue
                reason = "enrol first"
            except MalformedMessageError as wrong:
                reason = printable(str(wrong))
            self.bus.answer(knock.route, encode(messages.Refused("malformed", reason)))
        if not asked:
            return
        made = self._guarded(lambda: enrol_together(self.engine, [(knock.key, wanted) for knock, wanted in asked]))
        for (knock, wanted), peer in zip(asked, made or [None] * len(asked), strict=True):
            if isinstance(peer, Peer):
                log.info("enrolled", peer=peer.id, name=wanted.name)
                self._changes_at = 0.0
                # The key that this one replaces, if it does, is not let in any more.
                self._refresh = True
                answer: Any = messages.Enrolled(peer.id, wanted.name, self.instances.endpoints)
            else:
                answer = peer or messages.Refused("unavailable", "the appliance's database does not answer; try again")
            self.bus.answer(knock.route, encode(answer))

    def _read(self, source: Incoming, now: float) -> Decision | None:
        """Answer what needs no decision; return what does."""
        try:
            content = decode(source.frame)
        except MalformedMessageError as wrong:
            log.warning("malformed-message", peer=source.peer.id, error=str(wrong))
            self.bus.send(source.route, encode(messages.Refused("malformed", printable(str(wrong)))))
            return None
        metrics.MESSAGES.labels(content.KIND).inc()
        if isinstance(content, messages.Heartbeat):
            self._heartbeat(source, content, now)
            return None
        if isinstance(content, messages.Ask) and content.question == "stats":
            rows = self.questions.stats(self.ledger, self.presence.use, source.peer.id)
            self.bus.send(source.route, encode(messages.Answer(content.number, tuple(rows))))
            return None
        if isinstance(content, messages.Ask):
            self.questions.ask(source, content, self.bus.send)
            return None
        if isinstance(content, messages.Observations):
            self._observed(source.peer, content)
            return None
        if isinstance(content, messages.Hello):
            if content.role != source.peer.role:
                refused = messages.Refused(
                    "role", f"this key is enrolled as a {source.peer.role}, not a {content.role}"
                )
                self.bus.send(source.route, encode(refused))
                return None
            self.presence.greet(source, content, now)
        return Decision(source, content, now)

    def _heartbeat(self, source: Incoming, content: messages.Heartbeat, now: float) -> None:
        epoch = self.office.epoch
        if not self.presence.beat(source, content, now):
            self.bus.send(source.route, encode(messages.Report(epoch)))
            return
        self.bus.send(source.route, encode(messages.Beat(epoch, self.leading, time.time())))
        if source.peer.role == messages.SERVER and content.use:
            self.presence.used(source.peer.id, content.use)
            self.telemetry.used(source.peer.id, content.use)
            if self.leading:
                for use in content.use:
                    self.ledger.used(use.lease, use.idle_s)

    def _observed(self, peer: Peer, content: messages.Observations) -> None:
        skew = self.presence.clock_skew(peer.id)
        readings = health.judge(peer.id, content.observed, skew, self.ledger.settings)
        self.observed.note(peer.id, readings)
        if peer.role == messages.SERVER:
            self.telemetry.note(peer.id, content.observed)

    def _decline(self, decision: Decision) -> None:
        """This process does not decide now: say so, where somebody waits for an answer."""
        content, route = decision.content, decision.source.route
        if isinstance(content, messages.Hello):
            self.bus.send(route, encode(self._welcome(decision.source.peer, ())))
        elif isinstance(content, messages.RequestLease):
            reason = self.trouble or "this appliance process does not decide; another one does"
            self.bus.send(
                route, encode(messages.Denied(content.request, "unavailable", printable(reason), again_s=1.0))
            )

    def _welcome(self, peer: Peer, problems: tuple[str, ...]) -> messages.Welcome:
        settings = self.ledger.settings
        return messages.Welcome(
            id=peer.id,
            epoch=self.office.epoch,
            leader=self.leading,
            heartbeat_s=self.presence.heartbeat_s(settings.heartbeat_s),
            lost_after_s=settings.lost_after_s,
            endpoints=self.instances.endpoints,
            problems=problems,
        )

    # Decisions

    def _only_confirm(self, decisions: list[Decision]) -> bool:
        """Whether these only say that daemons did what was decided, and nobody waits for what that sets free."""
        return not self.ledger.waiting and all(
            isinstance(each.content, messages.Prepared | messages.Released)
            and self.ledger.wanted.get(each.source.peer.id) is ServerState.ACTIVE
            for each in decisions
        )

    def _confirm(self, decisions: list[Decision]) -> None:
        with self.ledger.confirmations() as batch:
            for each in decisions:
                HANDLERS[type(each.content)][1](self, each)
        for effect in batch.effects:
            self.outgoing.carry_out(effect)

    def _decide(self, decisions: list[Decision], ticking: bool, started: float) -> None:
        after: list[tuple[bytes, Any]] = []
        try:
            requests = [each for each in decisions if isinstance(each.content, messages.RequestLease)]
            asked = [(each.source.peer.id, each.content.request) for each in requests]
            with self.ledger.batch(asked) as batch:
                if started >= self._changes_at or ticking:
                    apply_changes(self.ledger)
                    self._changes_at = started + LOOK_FOR_CHANGES_S
                self._settle(decisions, batch.over, after)
                if ticking:
                    self._time_passes()
                self.ledger.serve_queue()
                if ticking:
                    self.ledger.publish_queue()
        except (DatabaseGoneError, DeposedError, SQLAlchemyError, OvercommittedError, LedgerError) as failure:
            self._failed(failure, decisions)
            return
        except Exception as failure:
            log.exception("decision-failed")
            self._failed(failure, decisions)
            return
        self.trouble, self._flush_at = "", math.inf
        for route, content in after:
            self.bus.send(route, encode(content))
        for effect in batch.effects:
            self.outgoing.carry_out(effect)
        done = time.monotonic()
        metrics.BATCH.observe(done - started)
        for each in decisions:
            if isinstance(each.content, messages.RequestLease):
                metrics.DECISION.observe(done - each.at)
        if ticking and done >= self._measure_at:
            self._measure_at = done + MEASURE_S
            presence.measure(self.ledger, self.presence, self.telemetry)
            self.presence.forget(done)

    def _failed(self, failure: Exception, decisions: list[Decision]) -> None:
        """Nothing was written: memory is thrown away, whoever asked is told, and the next tick loads anew."""
        self._in_trouble(type(failure).__name__, failure)
        self._step_down(str(failure))
        self._tick_at = min(self._tick_at, time.monotonic() + 0.2)
        for each in decisions:
            self._decline(each)

    def _settle(
        self,
        decisions: list[Decision],
        over: dict[tuple[str, str], tuple[str, str]],
        after: list[tuple[bytes, Any]],
    ) -> None:
        for each in decisions:
            handler = HANDLERS.get(type(each.content))
            if handler is None:
                after.append((each.source.route, messages.Refused("unexpected", f"{each.content.KIND} is not for me")))
                continue
            role, method = handler
            if each.source.peer.role != role and role:
                after.append(
                    (each.source.route, messages.Refused("role", f"{each.content.KIND} is for a {role} to say"))
                )
                continue
            if isinstance(each.content, messages.RequestLease):
                ended = over.get((each.source.peer.id, each.content.request))
                if ended:
                    after.append((each.source.route, messages.LeaseEnded(each.content.request, *ended)))
                    continue
            answer = method(self, each)
            if answer is not None:
                after.append((each.source.route, answer))

    def _hello(self, decision: Decision) -> Any:
        peer, hello = decision.source.peer, decision.content
        if peer.is_next and renewal.confirm(self.ledger, peer):
            self._refresh = True
        versions = [messages.Observation("daemon.version", f"{hello.version}/{own_version()}")]
        self.observed.note(peer.id, health.judge(peer.id, versions, None, self.ledger.settings))
        if peer.role == messages.CLIENT:
            presence.note_client(self.ledger, peer.id, hello)
            unknown = [id_ for id_ in hello.kept if id_ not in self.ledger.leases]
            for id_ in unknown:
                self.bus.send(decision.source.route, encode(messages.LeaseEnded("", id_, "it is over")))
            return self._welcome(peer, ())
        facts = {
            name: getattr(hello, name)[:200]
            for name in ("address", "hostname", "host", "cuda_version", "driver_version")
        }
        problems = server_reported(
            self.ledger,
            peer.id,
            {**facts, "has_rdma": hello.has_rdma, "daemon_version": hello.version[:200]},
            gpus=[
                ReportedGpu(
                    each.id[:200], each.ordinal % 65536, each.name[:200], each.memory_mib, each.multiprocessors % 65536
                )
                for each in hello.gpus
            ],
            held=[(each.lease, each.fence) for each in hello.held],
            restarted=self.presence.is_new_process(peer.id, hello.instance),
        )
        wanted = self.ledger.wanted.get(peer.id)
        if wanted is ServerState.DRAINING:
            self.outgoing.say_drain(peer.id)
        return self._welcome(peer, tuple(map(printable, problems)))

    def _goodbye(self, decision: Decision) -> None:
        peer, content = decision.source.peer, decision.content
        self.presence.leave(peer.id, content.instance)
        if peer.role == messages.CLIENT:
            self.ledger.keeper_lost(peer.id, content.instance, content.reason or "its program ended")
        else:
            self.ledger.close(peer.id)

    def _request(self, decision: Decision) -> Any:
        wanted = decision.content
        client = decision.source.peer.id
        try:
            shape = Shape(
                wanted.gpus,
                wanted.memory_mib,
                wanted.fraction,
                wanted.compute,
                parse_filters(wanted.filters),
                wanted.one_server,
            )
            keeper = wanted.keeper or wanted.instance
            if not self.presence.is_here(client, keeper):
                raise RequestRefusedError(
                    "no_keeper", f"{keeper} of this client is not connected: start the client agent"
                )
            lease = self.ledger.request(
                client,
                wanted.request[:200],
                shape,
                timeout_s=min(max(wanted.timeout_s, 0.0), 2_592_000.0),
                duration_s=min(max(wanted.duration_s, 0.0), 31_536_000.0),
                priority=max(wanted.priority, -1000),
                keeper=keeper,
                program=wanted.program[:500],
                trace=wanted.trace[:64],
            )
        except RequestRefusedError as refused:
            metrics.REQUESTS.labels("refused").inc()
            nearest = str(refused.nearest) if refused.nearest else ""
            return messages.Denied(wanted.request, refused.code, printable(refused.reason), printable(nearest))
        except (FilterError, RequestError) as wrong:
            metrics.REQUESTS.labels("wrong").inc()
            return messages.Denied(wanted.request, "wrong", printable(str(wrong)))
        metrics.REQUESTS.labels("taken").inc()
        if keeper != wanted.instance:
            self.outgoing.requesters[lease.id] = wanted.instance
        return None

    def _release(self, decision: Decision) -> Any:
        wanted = decision.content
        lease = self.ledger.leases.get(wanted.lease)
        if lease is None or lease.member.id != decision.source.peer.id:
            return messages.LeaseEnded("", wanted.lease, "it is over, or not this client's")
        self.ledger.end(lease, wanted.reason[:500] or "released by its client")
        return None

    def _withdraw(self, decision: Decision) -> None:
        lease = self.ledger.by_request.get((decision.source.peer.id, decision.content.request))
        if lease is not None:
            self.ledger.end(self.ledger.leases[lease], "withdrawn by its client")

    def _prepared(self, decision: Decision) -> None:
        self.ledger.prepared(decision.source.peer.id, decision.content.lease, decision.content.fence)

    def _prepare_refused(self, decision: Decision) -> None:
        answer = decision.content
        log.warning("prepare-refused", server=decision.source.peer.id, lease=answer.lease, reason=answer.reason)
        self.ledger.prepare_refused(
            decision.source.peer.id, answer.lease, answer.fence, code=answer.code, reason=answer.reason, gpu=answer.gpu
        )

    def _released(self, decision: Decision) -> None:
        self.ledger.released(decision.source.peer.id, decision.content.lease, decision.content.fence)

    def _measured(self, decision: Decision) -> None:
        peer, measured = decision.source.peer, decision.content
        presence.note_distance(self.ledger, peer.id, measured)
        self.observed.note(peer.id, health.judge(peer.id, health.path_facts(measured), None, self.ledger.settings))

    def _upgrade_answer(self, decision: Decision) -> None:
        answer = decision.content
        text = f"{'will install' if answer.accepted else 'refused'} {answer.version}: {answer.detail}"
        peer = decision.source.peer
        self.ledger.now_deciding.books.event(f"{peer.role}.upgrade", peer.id, text[:500])

    def _next_key(self, decision: Decision) -> Any:
        return renewal.next_key(self.ledger, decision.source.peer, decision.content)

    def _time_passes(self) -> None:
        now, settings = time.monotonic(), self.ledger.settings
        lost_after = max(settings.lost_after_s, 3 * self.presence.heartbeat_s(settings.heartbeat_s))
        for server in self.presence.silent_servers(now, lost_after):
            self.ledger.server_lost(server, f"server {server} was silent for {lost_after:g} s")
        for client, keeper in self.presence.silent_keepers(now, lost_after, self.ledger.by_keeper):
            self.ledger.keeper_lost(client, keeper, f"its client was silent for {lost_after:g} s")
        self.observed.write(self.ledger, now)
        self.renewals.look(self.ledger, now, self.presence.routes_of)
        tick(self.ledger)


HANDLERS: dict[type, tuple[str, Callable[[ControlLoop, Decision], Any]]] = {
    messages.Hello: ("", ControlLoop._hello),
    messages.Goodbye: ("", ControlLoop._goodbye),
    messages.RequestLease: (messages.CLIENT, ControlLoop._request),
    messages.Withdraw: (messages.CLIENT, ControlLoop._withdraw),
    messages.ReleaseLease: (messages.CLIENT, ControlLoop._release),
    messages.Measured: (messages.CLIENT, ControlLoop._measured),
    messages.Prepared: (messages.SERVER, ControlLoop._prepared),
    messages.PrepareRefused: (messages.SERVER, ControlLoop._prepare_refused),
    messages.Released: (messages.SERVER, ControlLoop._released),
    messages.UpgradeAnswer: ("", ControlLoop._upgrade_answer),
    messages.NextKey: ("", ControlLoop._next_key),
}
