"""Live numbers of the pool, kept in memory only: how GPUs and leases are used now, and how the pool was used lately.

Daemons report to every appliance process, so each process can answer for itself. Written by the control loop's thread,
read by those of the API. A GPU's numbers are forgotten when nothing was heard of them for `FORGET_AFTER_S`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gpuserver.protocol.control.messages import LeaseUse, Observation

MEASURES = {
    "gpu.temperature": "temperature_c",
    "gpu.utilisation": "utilisation",
    "gpu.memory-used": "memory_used_mib",
    "gpu.power": "power_w",
}
"""Observations of a GPU that are numbers to show. Temperature in °C, utilisation in %, memory in MiB, power in W."""
KEPT = 60
SAMPLE_EVERY_S = 5.0
SAMPLES = 360
FORGET_AFTER_S = 120.0


@dataclass(frozen=True, slots=True)
class GpuUse:
    """The last word about a GPU; None: its daemon or driver does not say. `history`: utilisation in %, oldest first."""

    temperature_c: float | None = None
    utilisation: float | None = None
    memory_used_mib: float | None = None
    power_w: float | None = None
    history: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionUse:
    """What the sessions of one lease do on one server; rates are per second, between the last two words about them."""

    server: str
    use: LeaseUse
    at: float
    calls_s: float = 0.0
    bytes_s: float = 0.0
    round_trips_s: float = 0.0

    def now(self, clock: float, quiet_s: float) -> SessionUse:
        """The same as of `clock` (monotonic seconds): its idle time goes on, and silence means no calls."""
        idle = self.use.idle_s + max(0.0, clock - self.at)
        if clock - self.at > quiet_s:
            return replace(self, use=replace(self.use, idle_s=idle), calls_s=0.0, bytes_s=0.0, round_trips_s=0.0)
        return replace(self, use=replace(self.use, idle_s=idle))


@dataclass(frozen=True, slots=True)
class PoolSample:
    """The pool at one moment (seconds since 1970). `utilisation`: mean of the GPUs that say, in %."""

    at: float
    memory_mib: int
    reserved_mib: int
    leases: int
    waiting: int
    sessions: int
    utilisation: float | None


@dataclass(slots=True)
class _Gpu:
    values: dict[str, float] = field(default_factory=dict)
    history: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    at: float = 0.0


class Telemetry:
    """What was heard last, by (server, GPU) and (server, lease)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gpus: dict[tuple[str, str], _Gpu] = {}
        self._sessions: dict[tuple[str, str], SessionUse] = {}
        self._samples: deque[PoolSample] = deque(maxlen=SAMPLES)
        self._sampled_at = -SAMPLE_EVERY_S

    def note(self, server: str, observed: Iterable[Observation]) -> None:
        """Take a daemon's observations; what is no number of `MEASURES` is left out."""
        now = time.monotonic()
        with self._lock:
            for each in observed:
                name = MEASURES.get(each.check)
                try:
                    value = float(each.value) if name and each.subject else None
                except ValueError:
                    continue
                if name is None or value is None or not 0 <= value < 1e9:
                    continue
                gpu = self._gpus.setdefault((server, each.subject[:200]), _Gpu())
                gpu.values[name], gpu.at = value, now
                if name == "utilisation":
                    gpu.history.append(value)

    def used(self, server: str, use: Iterable[LeaseUse]) -> None:
        """Take what a daemon's heartbeat says of its sessions."""
        now = time.monotonic()
        with self._lock:
            for each in use:
                key = server, each.lease
                before = self._sessions.get(key)
                if before is None or now <= before.at:
                    self._sessions[key] = SessionUse(server, each, now)
                    continue
                seconds = now - before.at
                self._sessions[key] = SessionUse(
                    server,
                    each,
                    now,
                    max(0, each.calls - before.use.calls) / seconds,
                    max(0, each.bytes - before.use.bytes) / seconds,
                    max(0, each.round_trips - before.use.round_trips) / seconds,
                )

    def forget(self, live: Iterable[str]) -> None:
        """Drop leases that are over, and GPUs of which nothing is heard any more."""
        kept, now = set(live), time.monotonic()
        with self._lock:
            for key in [key for key in self._sessions if key[1] not in kept]:
                del self._sessions[key]
            for gpu in [key for key, each in self._gpus.items() if now - each.at > FORGET_AFTER_S]:
                del self._gpus[gpu]

    def gpu(self, server: str, gpu: str) -> GpuUse:
        with self._lock:
            known = self._gpus.get((server, gpu))
            return GpuUse(**known.values, history=tuple(known.history)) if known else GpuUse()

    def sessions(self, quiet_s: float) -> list[SessionUse]:
        """Every lease on every server; `quiet_s` without a word about it means that nothing is called."""
        now = time.monotonic()
        with self._lock:
            return [each.now(now, quiet_s) for each in self._sessions.values()]

    def sample(self, memory_mib: int, reserved_mib: int, leases: int, waiting: int) -> None:
        """Remember the pool as it is now, if the last sample is old enough."""
        now = time.monotonic()
        if now - self._sampled_at < SAMPLE_EVERY_S:
            return
        self._sampled_at = now
        with self._lock:
            busy = [each.values["utilisation"] for each in self._gpus.values() if "utilisation" in each.values]
            mean = sum(busy) / len(busy) if busy else None
            sessions = sum(each.use.sessions for each in self._sessions.values())
            self._samples.append(PoolSample(time.time(), memory_mib, reserved_mib, leases, waiting, sessions, mean))

    def samples(self) -> list[PoolSample]:
        with self._lock:
            return list(self._samples)
