"""Health checks: what daemons and agents measure, what it means, from where on it is wrong, and what to do then.

Peers send observations (`gpu.temperature` = `91`); thresholds are the appliance's. A reading is written when its result
changes, and otherwise every few minutes, so a healthy pool costs the database nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, update

from appliance import metrics
from appliance.filters import known_version
from appliance.ledger import Ledger
from appliance.settings import Settings
from appliance.state.models import Reading, now
from gpuserver.protocol.control.messages import Measured, Observation

OK, WARNING, FAILED, UNKNOWN = "ok", "warning", "failed", "unknown"
WRITE_AGAIN_S = 300.0
HARDWARE_XIDS = (48, 63, 64, 74, 79, 94, 95)
"""Xid errors that speak of the GPU itself: memory, NVLink, the bus (NVIDIA, "Xid Errors")."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of one check on one subject."""

    subject: str
    check: str
    state: str
    value: str
    threshold: str
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Check:
    """`bound` gives the threshold as people read it; `judge(value, settings)` the result."""

    meaning: str
    remedy: str
    bound: Callable[[Settings], str]
    judge: Callable[[str, Settings], str]


def at_most(limit: Callable[[Settings], float], worse: str = WARNING) -> Callable[[str, Settings], str]:
    return lambda value, settings: OK if float(value) <= limit(settings) else worse


def at_least(limit: Callable[[Settings], float], worse: str = WARNING) -> Callable[[str, Settings], str]:
    return lambda value, settings: OK if float(value) >= limit(settings) else worse


def equals(wanted: str, worse: str = WARNING) -> Callable[[str, Settings], str]:
    return lambda value, settings: OK if value == wanted else worse


def _pcie(value: str, settings: Settings) -> str:
    current, _, widest = value.partition("/")
    return OK if int(current) >= int(widest) else WARNING


def _xid(value: str, settings: Settings) -> str:
    return OK if int(value) == 0 else FAILED if int(value) in HARDWARE_XIDS else WARNING


CHECKS: dict[str, Check] = {
    "driver.version": Check(
        "The NVIDIA driver of the server; its CUDA level limits what programs may use.",
        "Install a driver of branch 525 or newer.",
        lambda settings: ">= 525",
        lambda value, settings: OK if known_version(value) >= (525,) else FAILED,
    ),
    "cuda.version": Check(
        "The CUDA level of the server's driver: programs built for a newer major version do not start on it.",
        "Install a newer driver; filter with server.cuda-version until then.",
        lambda settings: ">= 12.0",
        lambda value, settings: OK if known_version(value) >= (12,) else WARNING,
    ),
    "driver.match": Check(
        "Whether the loaded kernel module and the user-space libraries are of the same version.",
        "Reboot the server, or reload the nvidia modules: a driver was installed under a running one.",
        lambda settings: "same",
        equals("same", FAILED),
    ),
    "gpu.ecc": Check(
        "Uncorrected ECC errors since the last reset: data in GPU memory was lost.",
        "Drain the server, reset the GPU; replace it when they return.",
        lambda settings: "0",
        at_most(lambda settings: 0, FAILED),
    ),
    "gpu.xid": Check(
        "The last Xid error the driver reported since the server's start; 0 for none.",
        "Look it up in NVIDIA's Xid catalogue; drain the server for hardware errors (48, 63, 64, 74, 79, 94, 95), then "
        "reset the GPU or restart the VM. Others (13, 31, 43, 45) are mostly a program's own fault.",
        lambda settings: "0",
        _xid,
    ),
    "gpu.temperature": Check(
        "The GPU's temperature in °C.",
        "Check the host's fans and airflow; a hot GPU slows down and then stops.",
        lambda settings: f"<= {settings.max_temperature_c} °C",
        at_most(lambda settings: settings.max_temperature_c),
    ),
    "gpu.throttle": Check(
        "Why the GPU runs below its clocks; `none` when it does not.",
        "Thermal: check cooling. Power: check the power limit and supplies.",
        lambda settings: "none",
        equals("none"),
    ),
    "gpu.pcie": Check(
        "PCIe lanes in use / lanes the GPU has.",
        "Reseat the card, check the slot; in a VM, check the passthrough device's link on the host.",
        lambda settings: "all lanes",
        _pcie,
    ),
    "gpu.leaked": Check(
        "MiB of GPU memory that no process and no lease accounts for.",
        "Drain the server and reset the GPU (nvidia-smi --gpu-reset), or restart the VM.",
        lambda settings: "<= 512 MiB",
        at_most(lambda settings: 512),
    ),
    "disk.free": Check(
        "MiB free where the daemon keeps its modules and logs.",
        "Make room: module caches and logs need it.",
        lambda settings: ">= 1024 MiB",
        at_least(lambda settings: 1024),
    ),
    "files.limit": Check(
        "How many files the daemon may open; every session needs a few.",
        "Raise LimitNOFILE of the service.",
        lambda settings: ">= 8192",
        at_least(lambda settings: 8192),
    ),
    "client.files": Check(
        "How many files a program on this client may open; every CUDA process needs a few for its connections.",
        "Raise the limit (ulimit -n, /etc/security/limits.conf).",
        lambda settings: ">= 1024",
        at_least(lambda settings: 1024),
    ),
    "clock.skew": Check(
        "Seconds by which this machine's clock differs from the appliance's.",
        "Synchronise the clocks (chrony); leases do not depend on them, logs and certificates do.",
        lambda settings: f"<= {settings.max_clock_skew_s:g} s",
        lambda value, settings: OK if abs(float(value)) <= settings.max_clock_skew_s else WARNING,
    ),
    "net.mtu": Check(
        "The largest packet that reaches the GPU server unfragmented.",
        "Use jumbo frames (9000) on vmkernel ports, switches and VMs alike, for throughput.",
        lambda settings: ">= 1500",
        at_least(lambda settings: 1500),
    ),
    "net.round-trip": Check(
        "Microseconds to the GPU server and back; every waiting call of a program costs as much.",
        "Put client and server on the same switch or host; look for a firewall or a shaped link between them.",
        lambda settings: f"<= {settings.max_round_trip_us:g} µs",
        at_most(lambda settings: settings.max_round_trip_us),
    ),
    "net.bandwidth": Check(
        "Mbit/s to the GPU server.",
        "10 Gbit/s or more is advised; check the link's speed and the MTU.",
        lambda settings: ">= 5000 Mbit/s",
        at_least(lambda settings: 5000),
    ),
    "rdma.link": Check(
        "The state of the RDMA link, where there is an adapter.",
        "Check the PVRDMA adapter and its network; without it TCP is used.",
        lambda settings: "active or none",
        lambda value, settings: OK if value in ("active", "none") else WARNING,
    ),
    "daemon.version": Check(
        "gpuferry's version on this machine / on the appliance.",
        "Upgrade this machine.",
        lambda settings: "same",
        lambda value, settings: OK if value.partition("/")[0] == value.partition("/")[2] else WARNING,
    ),
    "shim.version": Check(
        "The version of the CUDA library that programs on this client load / of its agent.",
        "Install the client bundle again.",
        lambda settings: "same",
        lambda value, settings: OK if value.partition("/")[0] == value.partition("/")[2] else FAILED,
    ),
}


def judge(peer: str, observed: Iterable[Observation], skew_s: float | None, settings: Settings) -> list[Judgement]:
    """The readings of a peer's observations; a value that cannot be read is `unknown`, never `ok`."""
    everything = list(observed)[:4096]
    if skew_s is not None:
        everything.append(Observation("clock.skew", f"{skew_s:.3f}"))
    made = []
    for each in everything:
        check = CHECKS.get(each.check)
        if check is None:
            continue
        try:
            state = check.judge(each.value, settings)
        except ValueError:
            state = UNKNOWN
        subject = f"{peer}/{each.subject}"[:300] if each.subject else peer
        made.append(
            Judgement(subject, each.check, state, each.value[:200], check.bound(settings), check.meaning, check.remedy)
        )
    return made


def path_facts(measured: Measured) -> list[Observation]:
    """What a client's `netperf` found on its way to a server, as observations."""
    facts = [Observation("net.round-trip", f"{measured.round_trip_us:.1f}", measured.server)]
    if measured.bandwidth_mbps is not None:
        facts.append(Observation("net.bandwidth", f"{measured.bandwidth_mbps:.0f}", measured.server))
    if measured.mtu is not None:
        facts.append(Observation("net.mtu", str(measured.mtu), measured.server))
    return facts


class Observed:
    """The last judgements, and which of them the database has."""

    def __init__(self) -> None:
        self._now: dict[tuple[str, str], Judgement] = {}
        self._written: dict[tuple[str, str], tuple[str, float]] = {}
        self._due: dict[tuple[str, str], None] = {}

    def note(self, peer: str, readings: Iterable[Judgement]) -> None:
        for each in readings:
            key = each.subject, each.check
            self._now[key] = each
            self._due[key] = None

    def write(self, ledger: Ledger, clock: float) -> None:
        """Write what changed, inside a batch; at most 500 rows of it."""
        for key in list(self._due)[:500]:
            del self._due[key]
            reading = self._now[key]
            state, at = self._written.get(key, ("", -WRITE_AGAIN_S))
            if reading.state == state and clock - at < WRITE_AGAIN_S:
                continue
            self._written[key] = reading.state, clock
            _store(ledger.connection, reading, now())
            if reading.state != state and (state or reading.state != OK):
                text = f"{reading.check} is {reading.state}: {reading.value} (should be {reading.threshold})"
                ledger.now_deciding.books.event(f"health.{reading.state}", reading.subject, text)
        for state in (OK, WARNING, FAILED, UNKNOWN):
            metrics.HEALTH.labels(state).set(sum(each.state == state for each in self._now.values()))


def _store(connection: Connection, reading: Judgement, at: datetime) -> None:
    key = (Reading.subject == reading.subject) & (Reading.check == reading.check)
    values = {
        "state": reading.state,
        "value": reading.value,
        "threshold": reading.threshold,
        "meaning": reading.meaning,
        "remedy": reading.remedy,
        "measured_at": at,
    }
    if not connection.execute(update(Reading).where(key).values(**values)).rowcount:
        connection.execute(insert(Reading).values(subject=reading.subject, check=reading.check, **values))
