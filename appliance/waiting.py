"""Whose turn it is when not everybody fits: quotas, priorities and the fair order of the queue.

Order: priority first; then the smaller share, which is what the client's group (divided by its weight) and then the
client itself hold and are already ahead for in this queue; then who came first. So ten requests of one client and ten
of another alternate, whoever's came first. A request that fits may overtake one that does not, until that one has
waited `patience_s`: then nothing of equal or lower priority starts before it. Requests held up by their own quota hold
up nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.placement import Shape
from appliance.pool import Share


@dataclass(slots=True, eq=False)
class Quota:
    """Limits of a client or a group, None for none; and what it holds now. Memory in MiB."""

    name: str
    max_gpus: int | None = None
    max_memory_mib: int | None = None
    max_leases: int | None = None
    gpus: int = 0
    memory_mib: int = 0
    leases: int = 0

    def add(self, shares: Iterable[Share], sign: int) -> None:
        """Count a lease in (+1) or out (-1)."""
        self.leases += sign
        for share in shares:
            self.gpus += sign
            self.memory_mib += sign * share.memory_mib

    def refuses(self, gpus: int, memory_mib: int, held: bool) -> str:
        """Why so much more is not allowed; empty when it is. `held`: on top of what is held, else alone."""
        checks = (
            ("GPUs", self.max_gpus, self.gpus if held else 0, gpus),
            ("MiB of GPU memory", self.max_memory_mib, self.memory_mib if held else 0, memory_mib),
            ("leases", self.max_leases, self.leases if held else 0, 1),
        )
        for what, limit, has, wants in checks:
            if limit is not None and has + wants > limit:
                holds = f" and holds {has}" if held else ""
                return f"the quota of {self.name} is {limit} {what}{holds}; this request needs {wants}"
        return ""


@dataclass(slots=True, eq=False)
class Member:
    """A client as the queue sees it."""

    id: str
    quota: Quota
    group: str
    group_quota: Quota
    weight: float = 1.0
    priority: int = 0
    revoked: bool = False
    host: str = ""
    max_lease_s: int | None = None
    idle_after_s: int | None = None


@dataclass(slots=True, eq=False)
class Waiting:
    """A queued request. `since` is wall-clock seconds; `reason` and `position` are what its client is told."""

    lease: str
    member: Member
    shape: Shape
    priority: int
    since: float
    deadline: float | None = None
    reason: str = ""
    position: int = 0


def fair_order(queue: Iterable[Waiting]) -> list[Waiting]:
    """The queue in the order in which it is to be served, each with its position from 1."""
    ahead_of_group: dict[str, int] = {}
    ahead_of_client: dict[str, int] = {}
    keyed: list[tuple[tuple[float, float, float, float, str], Waiting]] = []
    for each in sorted(queue, key=lambda waiting: (-waiting.priority, waiting.since, waiting.lease)):
        member = each.member
        group = member.group_quota.gpus + ahead_of_group.get(member.group, 0)
        client = member.quota.gpus + ahead_of_client.get(member.id, 0)
        keyed.append(((-each.priority, group / member.weight, client, each.since, each.lease), each))
        ahead_of_group[member.group] = ahead_of_group.get(member.group, 0) + each.shape.gpus
        ahead_of_client[member.id] = ahead_of_client.get(member.id, 0) + each.shape.gpus
    keyed.sort(key=lambda pair: pair[0])
    ordered = [each for _, each in keyed]
    for position, each in enumerate(ordered, start=1):
        each.position = position
    return ordered


def memory_wanted(shape: Shape, largest_mib: int) -> int:
    """MiB a request may come to in all, for comparing it with a quota before it is placed."""
    return shape.gpus * shape.memory_on(largest_mib)


def quota_reason(member: Member, gpus: int, memory_mib: int, held: bool) -> str:
    """Why the client's or its group's quota does not allow so much; empty when it does."""
    return member.quota.refuses(gpus, memory_mib, held) or member.group_quota.refuses(gpus, memory_mib, held)
