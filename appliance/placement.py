"""Which slices a request gets: a pure function of the pool, the request and the client's distances.

What decides, in this order:

1. one server before several;
2. the distance class of the server; with `prefer=packed`, a single slice puts 3 before 2;
3. GPUs that are already shared before untouched ones, so that whole GPUs stay whole;
4. the tightest fit: the least memory left over on the GPU; for whole GPUs, the server with the fewest of them left.

The distance has four classes, not a number: a few microseconds must not scatter slices over the pool.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from appliance.filters import Filter
from appliance.pool import WHOLE, Gpu, Pool, Server, Share

NEAREST, NEAR, ORDINARY, FAR = range(4)
LOOKED_AT = 16
"""How many servers that fit are compared before the best of them is taken."""


class RequestError(ValueError):
    """A request that contradicts itself."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked for: `gpus` slices on different GPUs, each of `memory_mib` or `fraction` of its GPU's memory, or
    whole GPUs when neither is given. `compute` reserves thousandths of each GPU's multiprocessors. `one_server`: all
    on a single server."""

    gpus: int
    memory_mib: int | None = None
    fraction: float | None = None
    compute: int | None = None
    filters: tuple[Filter, ...] = ()
    one_server: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.gpus <= 4096:
            raise RequestError(f"{self.gpus} GPUs: ask for 1 to 4096")
        if self.memory_mib is not None and self.fraction is not None:
            raise RequestError("memory is given in MiB and as a fraction at once: use -m or -p, not both")
        if self.memory_mib is not None and not 1 <= self.memory_mib <= 1 << 30:
            raise RequestError(f"{self.memory_mib} MiB of each GPU: ask for 1 to {1 << 30}")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise RequestError(f"a fraction of {self.fraction}: it is above 0 and at most 1")
        if self.compute is not None and not 1 <= self.compute <= WHOLE:
            raise RequestError(f"a compute share of {self.compute}/1000: it is 1 to 1000")

    @property
    def whole(self) -> bool:
        return self.memory_mib is None and self.fraction is None

    def memory_on(self, size: int) -> int:
        """MiB needed on a GPU of `size` MiB."""
        if self.fraction is not None:
            return max(1, int(size * self.fraction))
        return size if self.memory_mib is None else self.memory_mib

    @property
    def compute_reserved(self) -> int:
        return WHOLE if self.whole else self.compute or 0

    def __str__(self) -> str:
        noun = "GPU" if self.gpus == 1 else "GPUs"
        if self.whole:
            parts = [f"{self.gpus} whole {noun}"]
        else:
            size = f"{self.memory_mib} MiB" if self.fraction is None else f"{self.fraction:g} of the memory"
            parts = [f"{self.gpus} {noun} with {size} each"]
            if self.compute:
                parts.append(f"{self.compute / 10:g} % of the multiprocessors")
        if self.one_server and self.gpus > 1:
            parts[0] += " on one server"
        return ", ".join([*parts, *map(str, self.filters)])


def fits_now(pool: Pool, shape: Shape, gpu: Gpu) -> bool:
    if not gpu.usable:
        return False
    if shape.whole:
        return gpu.untouched and pool.matches(shape.filters, gpu)
    return (
        gpu.free_mib >= shape.memory_on(gpu.memory_mib)
        and (gpu.free_compute >= shape.compute if shape.compute else gpu.free_compute > 0)
        and gpu.slices < pool.slices_per_gpu
        and pool.matches(shape.filters, gpu)
    )


def fits_ever(pool: Pool, shape: Shape, gpu: Gpu) -> bool:
    return gpu.ready and gpu.memory_mib >= shape.memory_on(gpu.memory_mib) and pool.matches(shape.filters, gpu)


def share_of(shape: Shape, gpu: Gpu) -> Share:
    return Share(gpu.id, shape.memory_on(gpu.memory_mib), shape.compute_reserved)


def tightness(shape: Shape, gpu: Gpu) -> tuple[bool, int, int]:
    return gpu.untouched, gpu.free_mib - shape.memory_on(gpu.memory_mib), gpu.number


def place(
    pool: Pool, shape: Shape, near: Mapping[str, int] | None = None, prefer: str = "close"
) -> tuple[Share, ...] | None:
    """The slices for `shape`, or None when it does not fit now. `near`: server id → distance class, ORDINARY if absent.

    Cost: a search in a sorted list for one GPU; for several GPUs, one pass over the servers.
    """
    near = near or {}
    close = sorted((cls, id_) for id_, cls in near.items() if cls < ORDINARY and id_ in pool.servers)
    find = _one_gpu if shape.gpus == 1 else _one_server
    if shape.gpus == 1 and prefer == "packed" and not shape.whole:
        best = _one_gpu(pool, shape, lambda server: near.get(server.id, ORDINARY) < FAR, untouched=False)
        if best:
            return best
    for _, members in _classes(close):
        found = _among(pool, shape, [pool.servers[id_] for id_ in members])
        if found:
            return found
    if close or near:
        found = find(pool, shape, lambda server: near.get(server.id, ORDINARY) == ORDINARY)
        if found:
            return found
    found = find(pool, shape, None)
    if found or shape.gpus == 1 or shape.one_server:
        return found
    return _several_servers(pool, shape, near)


def _classes(close: list[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for cls in (NEAREST, NEAR):
        members = [id_ for each, id_ in close if each == cls]
        if members:
            yield cls, members


def _among(pool: Pool, shape: Shape, servers: Iterable[Server]) -> tuple[Share, ...] | None:
    """The best single one of a few servers."""
    best: tuple[tuple[int, int, int], list[Gpu]] | None = None
    for server in servers:
        scored = _score(pool, shape, server)
        if scored and (best is None or scored[0] < best[0]):
            best = scored
    return tuple(share_of(shape, gpu) for gpu in best[1]) if best else None


def _score(pool: Pool, shape: Shape, server: Server) -> tuple[tuple[int, int, int], list[Gpu]] | None:
    """How well a server serves the whole request (smaller is better), and with which GPUs; None when it cannot."""
    fitting = [gpu for gpu in server.gpus if fits_now(pool, shape, gpu)]
    if len(fitting) < shape.gpus:
        return None
    fitting.sort(key=lambda gpu: tightness(shape, gpu))
    chosen = fitting[: shape.gpus]
    opened = sum(gpu.untouched for gpu in chosen)
    left = sum(gpu.free_mib - shape.memory_on(gpu.memory_mib) for gpu in chosen)
    # For whole GPUs nothing is left over on any: then the server with the fewest whole ones remaining.
    return (opened, left or server.whole, server.number), sorted(chosen, key=lambda gpu: gpu.ordinal)


def _one_gpu(
    pool: Pool, shape: Shape, allowed: Callable[[Server], bool] | None, untouched: bool = True
) -> tuple[Share, ...] | None:
    """Best fit over all GPUs, by binary search in the list of each memory size."""
    if shape.whole:
        return _one_server(pool, shape, allowed)
    best: tuple[tuple[bool, int, int], Gpu] | None = None
    for size, sized in pool.by_size.items():
        need = shape.memory_on(size)
        for position in range(bisect_left(sized, (need, -1)), len(sized)):
            free, number = sized[position]
            if free == size or (best and (False, free - need, number) >= best[0]):
                break
            gpu = pool.gpu_numbered(number)
            if fits_now(pool, shape, gpu) and (allowed is None or allowed(gpu.server)):
                best = (False, free - need, number), gpu
                break
    if best is None and untouched:
        for size in sorted(pool.by_size, key=lambda size: size - shape.memory_on(size)):
            if size < shape.memory_on(size):
                continue
            candidates = (
                gpu
                for gpu in pool.untouched_of_size(size)
                if fits_now(pool, shape, gpu) and (allowed is None or allowed(gpu.server))
            )
            # Break up a server that is broken up already.
            chosen = min(islice(candidates, LOOKED_AT), key=lambda gpu: (gpu.server.whole, gpu.number), default=None)
            if chosen:
                return (share_of(shape, chosen),)
    return (share_of(shape, best[1]),) if best else None


def _one_server(pool: Pool, shape: Shape, allowed: Callable[[Server], bool] | None) -> tuple[Share, ...] | None:
    """The best of the first LOOKED_AT servers that hold the whole request, the fullest servers first."""
    if shape.whole:
        order, least = pool.by_whole, shape.gpus
    else:
        order = pool.by_free
        least = shape.gpus * min((shape.memory_on(size) for size in pool.by_size), default=1)
    fitting: list[Server] = []
    for position in range(bisect_left(order, (least, -1)), len(order)):
        server = pool.server_numbered(order[position][1])
        if allowed is not None and not allowed(server):
            continue
        if sum(fits_now(pool, shape, gpu) for gpu in server.gpus) >= shape.gpus:
            fitting.append(server)
            if len(fitting) == (1 if shape.whole else LOOKED_AT):
                break
    return _among(pool, shape, fitting)


def _several_servers(pool: Pool, shape: Shape, near: Mapping[str, int]) -> tuple[Share, ...] | None:
    """As few servers as hold the request: those with the most fitting GPUs first."""
    offers: list[tuple[int, int, int, list[Gpu]]] = []
    for _, number in pool.by_free:
        server = pool.server_numbered(number)
        fitting = [gpu for gpu in server.gpus if fits_now(pool, shape, gpu)]
        if fitting:
            offers.append((-len(fitting), near.get(server.id, ORDINARY), number, fitting))
    offers.sort(key=lambda offer: offer[:3])
    shares: list[Share] = []
    for *_, fitting in offers:
        missing = shape.gpus - len(shares)
        fitting.sort(key=lambda gpu: tightness(shape, gpu))
        shares.extend(share_of(shape, gpu) for gpu in sorted(fitting[:missing], key=lambda gpu: gpu.ordinal))
        if len(shares) == shape.gpus:
            return tuple(shares)
    return None


def fits_open(pool: Pool, shape: Shape) -> bool:
    """Whether the request would fit on the servers that are open, if nobody else held anything."""
    fitting = (gpu for gpu in pool.gpus.values() if gpu.server.open and fits_ever(pool, shape, gpu))
    return _most(shape, fitting, shape.gpus) == shape.gpus


def capacity(pool: Pool, shape: Shape, at_most: int) -> int:
    """On how many GPUs one slice of the shape would fit if nobody else held anything; counts to `at_most`."""
    return _most(shape, (gpu for gpu in pool.gpus.values() if fits_ever(pool, shape, gpu)), at_most)


def _most(shape: Shape, fitting: Iterable[Gpu], at_most: int) -> int:
    """How many of these GPUs one lease of the shape may have: of all servers, or of the one that has most."""
    if not shape.one_server:
        return sum(1 for _ in islice(fitting, at_most))
    return min(at_most, max(Counter(gpu.server.id for gpu in fitting).values(), default=0))


def possible(pool: Pool, shape: Shape) -> bool:
    """Whether the request would fit into the empty pool."""
    return capacity(pool, shape, shape.gpus) == shape.gpus


def nearest_possible(pool: Pool, shape: Shape) -> Shape | None:
    """For a request that can never fit, the one that would which gives up the least.

    Tried in turn: fewer GPUs, less memory of each, one filter less, and all filters off with the memory cut to fit.
    """
    fewer = capacity(pool, shape, shape.gpus)
    if fewer:
        return replace(shape, gpus=fewer)
    if shape.memory_mib is not None:
        candidates = [gpu for gpu in pool.gpus.values() if gpu.ready and pool.matches(shape.filters, gpu)]
        if shape.one_server and candidates:
            largest = max(candidates, key=lambda gpu: gpu.memory_mib).server
            candidates = [gpu for gpu in candidates if gpu.server is largest]
        sizes = sorted((gpu.memory_mib for gpu in candidates), reverse=True)
        if sizes:
            count = min(shape.gpus, len(sizes))
            return replace(shape, gpus=count, memory_mib=sizes[count - 1])
    best: Shape | None = None
    for dropped in shape.filters:
        less = replace(shape, filters=tuple(each for each in shape.filters if each is not dropped))
        count = capacity(pool, less, shape.gpus)
        if count and (best is None or count > best.gpus):
            best = replace(less, gpus=count)
    if best is None and shape.filters:
        bare = replace(shape, filters=())
        best = bare if possible(pool, bare) else nearest_possible(pool, bare)
    return best
