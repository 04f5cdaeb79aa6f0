"""Many targets at a time: so many at once, each by itself, one's failure nobody else's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

from appliance.deploy.deployment import Progress
from appliance.deploy.errors import DeployError
from appliance.deploy.ssh import Target

AT_ONCE = 50
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """How one target ended: `result`, or `error`; and how long it took, in seconds."""

    target: Target
    result: T | None
    error: DeployError | None
    seconds: float


def for_each(
    targets: Sequence[Target],
    work: Callable[[Target, Callable[[Progress], None]], T],
    on_progress: Callable[[Target, Progress], None] = lambda target, progress: None,
    at_once: int = AT_ONCE,
) -> Iterator[Outcome[T]]:
    """Do `work(target, on_progress)` for every target, `at_once` of them at a time; the outcomes as they come.

    A DeployError ends its own target; anything else is a fault of ours and is raised.
    """

    def one(target: Target) -> Outcome[T]:
        started = time.monotonic()
        try:
            result = work(target, lambda progress: on_progress(target, progress))
        except DeployError as wrong:
            return Outcome(target, None, wrong, time.monotonic() - started)
        return Outcome(target, result, None, time.monotonic() - started)

    with ThreadPoolExecutor(max(1, min(at_once, len(targets))), thread_name_prefix="deploy") as pool:
        for done in as_completed([pool.submit(one, each) for each in targets]):
            yield done.result()
