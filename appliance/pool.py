"""The pool in memory: every GPU, what is free on it, and the indexes by which placement finds a place in microseconds.

Nothing here waits, asks the database or knows of leases: `take` and `give_back` move numbers, and refuse to go below
zero or above a GPU's size. The database holds the truth; after any doubt the pool is built anew from it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from appliance.filters import Filter

WHOLE = 1000
"""All of a GPU's multiprocessors, in thousandths."""


class OvercommittedError(RuntimeError):
    """More was taken from a GPU than it has, or given back than was taken: memory and database disagree."""


@dataclass(slots=True, eq=False)
class Gpu:
    """`free_mib` and `free_compute` are what no slice has reserved; `usable`: ready, on a server that takes leases."""

    id: str
    server: Server
    ordinal: int
    name: str
    memory_mib: int
    free_mib: int
    free_compute: int = WHOLE
    slices: int = 0
    ready: bool = True
    number: int = 0

    @property
    def usable(self) -> bool:
        return self.ready and self.server.open

    @property
    def untouched(self) -> bool:
        return self.slices == 0


@dataclass(slots=True, eq=False)
class Server:
    """`open`: active, connected and reconciled, so that leases may be placed on it."""

    id: str
    name: str
    address: str = ""
    hostname: str = ""
    host: str = ""
    has_rdma: bool = False
    cuda_version: str = ""
    driver_version: str = ""
    open: bool = False
    gpus: list[Gpu] = field(default_factory=list)
    number: int = 0
    whole: int = 0
    """Usable GPUs nobody has a slice of."""
    free_mib: int = 0
    """Free memory of its usable GPUs together."""


@dataclass(frozen=True, slots=True)
class Share:
    """A slice as placement sees it."""

    gpu: str
    memory_mib: int
    compute: int


class Pool:
    """GPUs by id, servers by id, and sorted lists of what is free."""

    def __init__(self, slices_per_gpu: int = 48) -> None:
        self.servers: dict[str, Server] = {}
        self.gpus: dict[str, Gpu] = {}
        self.slices_per_gpu = slices_per_gpu
        self.generation = 0
        """Grows when the inventory changes, so that what was worked out from names and sizes is worked out again."""
        self.by_size: dict[int, list[tuple[int, int]]] = {}
        """GPU memory → sorted (free MiB, GPU number) of its usable GPUs."""
        self.by_whole: list[tuple[int, int]] = []
        """Sorted (untouched GPUs, server number) of open servers."""
        self.by_free: list[tuple[int, int]] = []
        """Sorted (free MiB, server number) of open servers."""
        self._gpu_numbers: list[Gpu] = []
        self._server_numbers: list[Server] = []
        self._matches: dict[tuple[Filter, ...], dict[int, bool]] = {}

    # Inventory

    def add_server(self, server: Server) -> Server:
        server.number = len(self._server_numbers)
        self._server_numbers.append(server)
        self.servers[server.id] = server
        if server.open:
            self._index_server(server)
        self._inventory_changed()
        return server

    def add_gpu(self, gpu: Gpu) -> Gpu:
        gpu.number = len(self._gpu_numbers)
        self._gpu_numbers.append(gpu)
        self.gpus[gpu.id] = gpu
        with self._reindexed(gpu.server):
            gpu.server.gpus.append(gpu)
            gpu.server.gpus.sort(key=lambda each: each.ordinal)
        self._inventory_changed()
        return gpu

    def set_open(self, server: Server, open_: bool) -> None:
        if server.open != open_:
            with self._reindexed(server):
                server.open = open_

    def set_ready(self, gpu: Gpu, ready: bool) -> None:
        if gpu.ready != ready:
            with self._reindexed(gpu.server):
                gpu.ready = ready

    def describe_server(self, server: Server, **facts: object) -> None:
        """Change what filters see of a server."""
        for name, value in facts.items():
            if getattr(server, name) != value:
                setattr(server, name, value)
                self._inventory_changed()

    def resize_gpu(self, gpu: Gpu, memory_mib: int) -> None:
        """The GPU turned out to have another size; what is reserved on it must still fit."""
        if memory_mib - gpu.memory_mib + gpu.free_mib < 0:
            raise OvercommittedError(f"{gpu.id}: {gpu.memory_mib - gpu.free_mib} MiB are reserved, {memory_mib} exist")
        with self._reindexed(gpu.server):
            gpu.free_mib += memory_mib - gpu.memory_mib
            gpu.memory_mib = memory_mib
        self._inventory_changed()

    def move_gpu(self, gpu: Gpu, server: Server) -> None:
        """The GPU was passed through to another server."""
        with self._reindexed(gpu.server):
            gpu.server.gpus.remove(gpu)
        with self._reindexed(server):
            gpu.server = server
            server.gpus.append(gpu)
        self._inventory_changed()

    def rename_gpu(self, gpu: Gpu, ordinal: int, name: str) -> None:
        if (gpu.ordinal, gpu.name) != (ordinal, name):
            gpu.ordinal, gpu.name = ordinal, name
            gpu.server.gpus.sort(key=lambda each: each.ordinal)
            self._inventory_changed()

    def _inventory_changed(self) -> None:
        self.generation += 1
        self._matches.clear()

    # Reservations

    def take(self, shares: Iterable[Share]) -> None:
        """Reserve. Raises OvercommittedError, after which the pool is to be built anew."""
        for share in shares:
            self._move(self.gpus[share.gpu], -share.memory_mib, -share.compute, 1)

    def give_back(self, shares: Iterable[Share]) -> None:
        for share in shares:
            self._move(self.gpus[share.gpu], share.memory_mib, share.compute, -1)

    def _move(self, gpu: Gpu, memory_mib: int, compute: int, slices: int) -> None:
        free, free_compute, count = gpu.free_mib + memory_mib, gpu.free_compute + compute, gpu.slices + slices
        if not (0 <= free <= gpu.memory_mib and 0 <= free_compute <= WHOLE and count >= 0):
            raise OvercommittedError(
                f"{gpu.id} of {gpu.memory_mib} MiB would have {free} MiB and {free_compute}/1000 compute free "
                f"under {count} slices"
            )
        server = gpu.server
        if gpu.usable:
            sized = self.by_size[gpu.memory_mib]
            del sized[bisect_left(sized, (gpu.free_mib, gpu.number))]
            insort(sized, (free, gpu.number))
            self._unindex_server(server)
            server.free_mib += memory_mib
            server.whole += (count == 0) - (gpu.slices == 0)
            insort(self.by_free, (server.free_mib, server.number))
            insort(self.by_whole, (server.whole, server.number))
        gpu.free_mib, gpu.free_compute, gpu.slices = free, free_compute, count

    # Indexes

    def _reindexed(self, server: Server) -> _Reindexed:
        return _Reindexed(self, server)

    def _index_server(self, server: Server) -> None:
        usable = [gpu for gpu in server.gpus if gpu.usable]
        server.whole = sum(gpu.untouched for gpu in usable)
        server.free_mib = sum(gpu.free_mib for gpu in usable)
        for gpu in usable:
            insort(self.by_size.setdefault(gpu.memory_mib, []), (gpu.free_mib, gpu.number))
        insort(self.by_free, (server.free_mib, server.number))
        insort(self.by_whole, (server.whole, server.number))

    def _unindex_server(self, server: Server) -> None:
        del self.by_free[bisect_left(self.by_free, (server.free_mib, server.number))]
        del self.by_whole[bisect_left(self.by_whole, (server.whole, server.number))]

    def unindex(self, server: Server) -> None:
        for gpu in server.gpus:
            if gpu.usable:
                sized = self.by_size[gpu.memory_mib]
                del sized[bisect_left(sized, (gpu.free_mib, gpu.number))]
                if not sized:
                    del self.by_size[gpu.memory_mib]
        self._unindex_server(server)

    # What placement asks

    def gpu_numbered(self, number: int) -> Gpu:
        return self._gpu_numbers[number]

    def server_numbered(self, number: int) -> Server:
        return self._server_numbers[number]

    def matches(self, filters: tuple[Filter, ...], gpu: Gpu) -> bool:
        """Whether every filter holds of this GPU; remembered until the inventory changes."""
        if not filters:
            return True
        remembered = self._matches.get(filters)
        if remembered is None:
            if len(self._matches) > 256:
                self._matches.clear()
            remembered = self._matches[filters] = {}
        answer = remembered.get(gpu.number)
        if answer is None:
            answer = remembered[gpu.number] = all(each.matches(gpu.server, gpu) for each in filters)
        return answer

    def untouched_of_size(self, size: int) -> Iterator[Gpu]:
        """The usable GPUs of `size` MiB that nobody has a slice of."""
        sized = self.by_size.get(size, [])
        for position in range(bisect_left(sized, (size, -1)), len(sized)):
            gpu = self._gpu_numbers[sized[position][1]]
            if gpu.untouched:
                yield gpu


class _Reindexed:
    """Takes a server out of the indexes while it changes."""

    def __init__(self, pool: Pool, server: Server) -> None:
        self.pool = pool
        self.server = server

    def __enter__(self) -> None:
        if self.server.open:
            self.pool.unindex(self.server)

    def __exit__(self, *error: object) -> None:
        if self.server.open:
            self.pool._index_server(self.server)
