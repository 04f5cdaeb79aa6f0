"""Placement against a reference that tries everything, and the rules by which it chooses."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.filters import parse_filters
from appliance.placement import (
    FAR,
    NEAR,
    NEAREST,
    RequestError,
    Shape,
    fits_now,
    nearest_possible,
    place,
    possible,
)
from appliance.pool import Gpu, OvercommittedError, Pool, Server, Share


def pool_of(*servers: tuple[int, ...], slices_per_gpu: int = 48) -> Pool:
    """Servers s0, s1, … given as the memory sizes of their GPUs; GPU j of server i is `i.j`."""
    pool = Pool(slices_per_gpu)
    for i, sizes in enumerate(servers):
        server = pool.add_server(Server(f"s{i}", f"s{i}", f"s{i}:4751", f"s{i}", open=True))
        for j, size in enumerate(sizes):
            pool.add_gpu(Gpu(f"{i}.{j}", server, j, f"Card {size}", size, size))
    return pool


def names(shares: tuple[Share, ...] | None) -> list[str]:
    assert shares is not None
    return [share.gpu for share in shares]


def test_tightest_shared_gpu_first_and_whole_ones_stay_whole() -> None:
    pool = pool_of((16000, 16000), (16000, 16000))
    pool.take([Share("0.0", 4000, 0), Share("1.0", 9000, 0)])
    assert names(place(pool, Shape(1, 5000))) == ["1.0"]
    assert names(place(pool, Shape(1, 8000))) == ["0.0"]
    assert names(place(pool, Shape(1, 13000))) in (["0.1"], ["1.1"])
    assert len(set(names(place(pool, Shape(2))))) == 2


def test_whole_gpus_come_from_the_server_with_the_fewest_left() -> None:
    pool = pool_of((16000,) * 4, (16000,) * 4, (16000,) * 2)
    pool.take([Share("1.0", 100, 0)])
    assert names(place(pool, Shape(1))) == ["2.0"]
    assert names(place(pool, Shape(3))) == ["1.1", "1.2", "1.3"]
    assert names(place(pool, Shape(4))) == ["0.0", "0.1", "0.2", "0.3"]


def test_one_server_before_several_and_as_few_as_possible() -> None:
    pool = pool_of((8000,), (8000, 8000, 8000), (8000, 8000))
    assert len({name[0] for name in names(place(pool, Shape(2, 4000)))}) == 1
    assert {name[0] for name in names(place(pool, Shape(3, 4000)))} == {"1"}
    assert sorted({name[0] for name in names(place(pool, Shape(5, 4000)))}) == ["1", "2"]
    assert place(pool, Shape(7, 4000)) is None


def test_fraction_is_of_each_gpu_rounded_down() -> None:
    pool = pool_of((10001, 20001))
    shares = place(pool, Shape(2, fraction=0.5))
    assert shares is not None
    assert {share.gpu: share.memory_mib for share in shares} == {"0.0": 5000, "0.1": 10000}


def test_compute_shares_add_up_to_the_gpu() -> None:
    pool = pool_of((16000,))
    for _ in range(3):
        shares = place(pool, Shape(1, 100, compute=300))
        assert shares is not None
        pool.take(shares)
    assert place(pool, Shape(1, 100, compute=300)) is None
    assert place(pool, Shape(1, 100, compute=100)) is not None
    pool.take([Share("0.0", 100, 100)])
    assert place(pool, Shape(1, 100)) is None, "no multiprocessor is left for a slice without a share"


def test_close_servers_first_far_ones_last() -> None:
    pool = pool_of((16000,), (16000,), (16000,), (16000,))
    near = {"s2": NEAREST, "s1": NEAR, "s0": FAR}
    order = []
    for _ in range(4):
        shares = place(pool, Shape(1), near)
        order += names(shares)
        pool.take(shares or ())
    assert order == ["2.0", "1.0", "3.0", "0.0"]


def test_packed_prefers_a_shared_gpu_to_a_close_one() -> None:
    pool = pool_of((16000,), (16000,))
    pool.take([Share("0.0", 1000, 0)])
    assert names(place(pool, Shape(1, 1000), {"s1": NEAREST}, "close")) == ["1.0"]
    assert names(place(pool, Shape(1, 1000), {"s1": NEAREST}, "packed")) == ["0.0"]


def test_closed_servers_and_unready_gpus_are_left_out() -> None:
    pool = pool_of((16000, 16000), (16000,))
    pool.set_open(pool.servers["s0"], False)
    assert names(place(pool, Shape(1, 1))) == ["1.0"]
    pool.set_ready(pool.gpus["1.0"], False)
    assert place(pool, Shape(1, 1)) is None
    pool.set_open(pool.servers["s0"], True)
    assert len(names(place(pool, Shape(2, 1)))) == 2
    assert place(pool, Shape(3, 1)) is None


def test_slices_per_gpu_is_a_limit() -> None:
    pool = pool_of((16000,), slices_per_gpu=2)
    pool.take([Share("0.0", 1, 0), Share("0.0", 1, 0)])
    assert place(pool, Shape(1, 1)) is None


def test_filters_choose() -> None:
    pool = pool_of((16000, 40000), (80000,))
    filters = parse_filters(["device.phy-memory>20000", "server.hostname=s0"])
    assert names(place(pool, Shape(1, 1, filters=filters))) == ["0.1"]
    assert place(pool, Shape(2, 1, filters=filters)) is None


@pytest.mark.parametrize(
    ("shape", "nearest"),
    [
        (Shape(4, 8000), Shape(3, 8000)),
        (Shape(1, 50000), Shape(1, 40000)),
        (Shape(2, 50000), Shape(2, 16000)),
        (Shape(1, 8000, filters=parse_filters(["device.name=nothing"])), Shape(1, 8000)),
        (Shape(9), Shape(3)),
    ],
)
def test_nearest_request_that_would_fit(shape: Shape, nearest: Shape) -> None:
    pool = pool_of((16000, 16000), (40000,))
    assert not possible(pool, shape)
    assert nearest_possible(pool, shape) == nearest
    assert possible(pool, nearest)
    assert place(pool, nearest) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpus": 0},
        {"gpus": 1, "memory_mib": 5, "fraction": 0.5},
        {"gpus": 1, "fraction": 1.5},
        {"gpus": 1, "fraction": 0.0},
        {"gpus": 1, "memory_mib": 0},
        {"gpus": 1, "memory_mib": 1, "compute": 1001},
    ],
)
def test_requests_that_contradict_themselves(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError):
        Shape(**wrong)  # type: ignore[arg-type]


def test_the_pool_refuses_to_be_overcommitted() -> None:
    pool = pool_of((1000,))
    pool.take([Share("0.0", 600, 500)])
    with pytest.raises(OvercommittedError):
        pool.take([Share("0.0", 401, 0)])
    with pytest.raises(OvercommittedError):
        pool.take([Share("0.0", 1, 501)])
    with pytest.raises(OvercommittedError):
        pool.give_back([Share("0.0", 601, 0)])


sizes = st.lists(st.lists(st.sampled_from([8000, 16000, 40000]), min_size=1, max_size=4), min_size=1, max_size=4)
requests = st.builds(
    Shape,
    gpus=st.integers(1, 5),
    memory_mib=st.one_of(st.none(), st.integers(1, 40000)),
    compute=st.one_of(st.none(), st.integers(1, 1000)),
)


def indexes_are_right(pool: Pool) -> None:
    """What placement looks things up in equals what a walk over the GPUs finds."""
    usable = [gpu for gpu in pool.gpus.values() if gpu.usable]
    listed = sorted(pair for sized in pool.by_size.values() for pair in sized)
    assert listed == sorted((gpu.free_mib, gpu.number) for gpu in usable)
    opened = [server for server in pool.servers.values() if server.open]
    whole = sorted((sum(gpu.usable and gpu.untouched for gpu in server.gpus), server.number) for server in opened)
    free = sorted((sum(gpu.free_mib for gpu in server.gpus if gpu.usable), server.number) for server in opened)
    assert pool.by_whole == whole
    assert pool.by_free == free


@settings(max_examples=150, deadline=None)
@given(sizes, st.lists(st.tuples(requests, st.integers(0, 9)), max_size=25))
def test_placement_is_exact(servers: list[list[int]], asked: list[tuple[Shape, int]]) -> None:
    """It places exactly what can be placed, within what is free, on one server where one suffices."""
    pool = pool_of(*map(tuple, servers))
    held: list[tuple[Share, ...]] = []
    for shape, chance in asked:
        fitting = [gpu for gpu in pool.gpus.values() if fits_now(pool, shape, gpu)]
        shares = place(pool, shape)
        if len(fitting) < shape.gpus:
            assert shares is None
        else:
            assert shares is not None
            chosen = [pool.gpus[share.gpu] for share in shares]
            assert len({gpu.id for gpu in chosen}) == shape.gpus
            assert all(gpu in fitting for gpu in chosen)
            one = any(len({gpu.server.id for gpu in some}) == 1 for some in combinations(fitting, shape.gpus))
            assert not one or len({gpu.server.id for gpu in chosen}) == 1
            if shape.gpus == 1 and not shape.whole:
                shared = [gpu.free_mib for gpu in fitting if not gpu.untouched]
                assert not shared or pool.gpus[shares[0].gpu].free_mib == min(shared)
            pool.take(shares)
            held.append(shares)
        if held and chance < 3:
            pool.give_back(held.pop(chance % len(held)))
        if chance == 9:
            server = pool.servers[f"s{len(held) % len(servers)}"]
            pool.set_open(server, not server.open)
        indexes_are_right(pool)


def test_what_must_be_on_one_server_waits_for_one() -> None:
    pool = pool_of((8000, 8000, 8000), (8000, 8000))
    wanted = Shape(3, one_server=True)
    assert {name[0] for name in names(place(pool, wanted))} == {"0"}
    pool.take([Share("0.0", 100, 0)])
    assert place(pool, wanted) is None, "three whole GPUs are left, but on two servers"
    assert len(names(place(pool, Shape(3)))) == 3
    assert possible(pool, wanted)
    assert not possible(pool, Shape(4, one_server=True))
    assert nearest_possible(pool, Shape(4, one_server=True)) == wanted
    assert str(wanted) == "3 whole GPUs on one server"
    uneven = pool_of((16000,), (8000, 8000))
    near = nearest_possible(uneven, Shape(2, 20000, one_server=True))
    assert near is not None
    assert possible(uneven, near)
