"""Cooperative groups and block-wide algorithms on the engine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.gpuserver.softgpu.engine.cuda_source import compile_to_ptx
from tests.gpuserver.softgpu.ptx_instructions.ptx_engine import Program

I32 = np.int32


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program(compile_to_ptx("groups")) as loaded:
        yield loaded


@pytest.mark.parametrize(("blocks", "threads"), [(1, 32), (4, 64), (37, 33), (300, 32)])
def test_grid_sync(program: Program, blocks: int, threads: int) -> None:
    n = blocks * threads
    data = np.random.default_rng(n).integers(0, 1000, n).astype(I32)
    expected = data.copy()
    for _ in range(3):
        expected = np.roll(expected, -1) + 1
    program.launch("grid_sync", data, I32(3), grid=(blocks,), block=(threads,), cooperative=True)
    assert np.array_equal(data, expected)


def test_tiles(program: Program) -> None:
    data = np.random.default_rng(4).integers(0, 9, 64).astype(I32)
    out = np.zeros((64, 4), I32)
    program.launch("tiles", data, out, block=(64,))
    tiles = data.reshape(8, 8)
    for i in range(64):
        tile = tiles[i // 8]
        assert out[i].tolist() == [
            tile.sum(),
            tile.max(),
            tile[: i % 8].sum(),
            tile[3] + int((tile == 7).any()) + i // 8 * 1000,
        ]


def test_coalesced_threads(program: Program) -> None:
    data = np.random.default_rng(5).integers(0, 100, 256).astype(I32)
    out, total = np.zeros(256, I32), np.zeros(1, I32)
    program.launch("coalesced", data, out, total, block=(256,))
    chosen = data[data % 3 == 1]
    assert total[0] == len(chosen)
    assert sorted(out[: total[0]].tolist()) == sorted(chosen.tolist())


def test_tile_of_several_warps(program: Program) -> None:
    data = np.arange(256, dtype=I32)
    out = np.zeros(256, I32)
    program.launch("multi_warp", data, out, block=(256,))
    assert np.array_equal(out.reshape(4, 64), np.repeat(data.reshape(4, 64).sum(1), 64).reshape(4, 64))


def test_block_group(program: Program) -> None:
    data = np.arange(64, dtype=I32)
    out = np.zeros(64, I32)
    program.launch("reserved_shared", data, out, block=(64,))
    assert out.tolist() == [data[:32].sum() + 64] * 32 + [data[32:].sum() + 64] * 32


@pytest.mark.parametrize("n", [1, 31, 256, 1000, 1024])
def test_scan(program: Program, n: int) -> None:
    data = np.random.default_rng(n).integers(-50, 50, n).astype(I32)
    out = np.zeros(n, I32)
    program.launch("block_scan", data, out, I32(n), block=(n,), shared_bytes=4 * n)
    assert np.array_equal(out, np.cumsum(data))


def test_bitonic_sort(program: Program) -> None:
    data = np.random.default_rng(6).random(1024).astype(np.float32)
    expected = np.sort(data)
    program.launch("bitonic_sort", data, I32(1024), block=(1024,), shared_bytes=4096)
    assert np.array_equal(data, expected)


def test_histogram(program: Program) -> None:
    data = np.random.default_rng(7).integers(0, 256, 100_001).astype(np.uint8)
    bins = np.zeros(256, np.uint32)
    program.launch("histogram", data, bins, I32(len(data)), grid=(9,), block=(192,))
    assert np.array_equal(bins, np.bincount(data, minlength=256))


@pytest.mark.parametrize(("width", "height"), [(64, 32), (100, 77), (33, 1)])
def test_transpose(program: Program, width: int, height: int) -> None:
    data = np.random.default_rng(8).random((height, width)).astype(np.float32)
    out = np.zeros((width, height), np.float32)
    grid = ((width + 31) // 32, (height + 31) // 32)
    program.launch("transpose", data, out, I32(width), I32(height), grid=grid, block=(32, 8))
    assert np.array_equal(out, data.T)


def test_reduction_with_shuffles(program: Program) -> None:
    data = np.arange(50_000, dtype=np.float64)
    out = np.zeros(1)
    program.launch("shuffle_reduce", data, out, I32(len(data)), grid=(7,), block=(160,))
    assert out[0] == data.sum()


def test_shuffle_among_divergent_lanes(program: Program) -> None:
    out = np.zeros(32, I32)
    program.launch("divergent_shuffle", out)
    expected = []
    for lane in range(32):
        value = (7 - lane) * 10 if lane < 8 else min(lane + 1, 31) * 10
        same = sum(1 for other in range(32) if other // 5 == lane // 5)
        expected.append(value + same * 10000)
    assert out.tolist() == expected


def test_shuffle_within_one_register(program: Program) -> None:
    data = np.arange(32, dtype=I32)
    program.launch("shuffle_in_place", data)
    up = [0, *range(31)]
    assert data.tolist() == [up[i + 3] if i + 3 < 32 else up[i] for i in range(32)]
