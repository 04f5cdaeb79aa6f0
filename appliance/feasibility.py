"""What can never be granted, and what comes closest to it: said at once instead of after a long wait."""

from __future__ import annotations

from appliance.placement import Shape, nearest_possible, possible
from appliance.pool import Pool
from appliance.waiting import Member, quota_reason

REMEMBERED = 1000


class RequestRefusedError(Exception):
    """A request that will never be granted. `code` is for programs; `nearest` is the closest request that would fit."""

    def __init__(self, code: str, reason: str, nearest: Shape | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.nearest = nearest


class Feasibility:
    """Answers for one pool, remembered until its inventory changes."""

    def __init__(self) -> None:
        self._generation = -1
        self._shapes: dict[Shape, bool] = {}

    def check(self, pool: Pool, member: Member, shape: Shape) -> None:
        """Raises RequestRefusedError when the empty pool, or the client's quota, is smaller than the request."""
        if not pool.gpus:
            raise RequestRefusedError("empty_pool", "the pool has no GPU yet: enrol a GPU server first")
        if not self._possible(pool, shape):
            nearest = nearest_possible(pool, shape)
            hint = f"; the nearest that would: {nearest}" if nearest else ""
            raise RequestRefusedError("impossible", f"no GPUs of this pool can ever hold {shape}{hint}", nearest)
        fitting = (shape.memory_on(size) for size in pool.by_size if size >= shape.memory_on(size))
        reason = quota_reason(member, shape.gpus, shape.gpus * min(fitting, default=1), held=False)
        if reason:
            raise RequestRefusedError("quota", reason)

    def _possible(self, pool: Pool, shape: Shape) -> bool:
        if self._generation != pool.generation or len(self._shapes) > REMEMBERED:
            self._generation = pool.generation
            self._shapes.clear()
        known = self._shapes.get(shape)
        if known is None:
            known = self._shapes[shape] = possible(pool, shape)
        return known
