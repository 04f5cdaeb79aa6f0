"""Instructions in which the lanes of a warp take part together: shfl, vote, match, redux, activemask, elect.

Each kernel runs one block of 64 threads; lane i reads word i of its inputs and writes word i of its outputs. Results
come from Python over the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from ptx_declare import PROLOGUE
from ptx_engine import Program

Words = npt.NDArray[np.uint32]
THREADS = 64
FULL = 0xFFFFFFFF


def run(body: str, *inputs: Words, outputs: int = 1, threads: int = THREADS) -> list[Words]:
    """`body` uses %x0.. (inputs), %y0.. (outputs), %place (in the warp) and %thread.

    %p0..%p7, %r0..%r7 and %q0..%q3 (64 bits) are free.
    """
    names = [f"in{i}" for i in range(len(inputs))] + [f"out{i}" for i in range(outputs)]
    text = PROLOGUE + ".visible .entry test(" + ", ".join(f".param .u64 {name}" for name in names) + ") {\n"
    text += ".reg .b32 %x<4>, %y<4>, %r<8>, %place, %thread;\n.reg .b64 %address, %offset, %q<4>;\n.reg .pred %p<8>;\n"
    text += "mov.u32 %thread, %tid.x;\nand.b32 %place, %thread, 31;\nmul.wide.u32 %offset, %thread, 4;\n"
    for i in range(len(inputs)):
        text += (
            f"ld.param.u64 %address, [in{i}];\nadd.u64 %address, %address, %offset;\nld.global.b32 %x{i}, [%address];\n"
        )
    for i in range(outputs):
        text += f"mov.b32 %y{i}, 0;\n"
    text += body + "\n"
    for i in range(outputs):
        text += f"ld.param.u64 %address, [out{i}];\nadd.u64 %address, %address, %offset;\n"
        text += f"st.global.b32 [%address], %y{i};\n"
    text += "ret;\n}\n"
    results = [np.zeros(threads, dtype=np.uint32) for _ in range(outputs)]
    with Program(text) as program:
        program.launch("test", *inputs, *results, block=(threads,))
    return results


def words(seed: int, count: int = THREADS) -> Words:
    return np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint32)


def shfl_source(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """PTX ISA 9.7.9 "shfl.sync": the source lane and the predicate."""
    bval, cval, mask = b & 31, c & 31, c >> 8 & 31
    most = (lane & mask) | (cval & ~mask & 31)
    least = lane & mask
    if mode == "up":
        j = lane - bval
        inside = j >= most
    elif mode == "down":
        j = lane + bval
        inside = j <= most
    elif mode == "bfly":
        j = lane ^ bval
        inside = j <= most
    else:
        j = least | (bval & ~mask & 31)
        inside = j <= most
    return (j if inside else lane), inside


@pytest.mark.parametrize(
    ("mode", "c"),
    [
        *product(("up",), (0x0000, 0x1800, 0x1000, 0x1E00)),
        *product(("down", "bfly", "idx"), (0x001F, 0x181F, 0x101F, 0x1E1F, 0x0007)),
    ],
)
@pytest.mark.parametrize("b", [0, 1, 2, 5, 16, 31, 33])
def test_shfl(mode: str, c: int, b: int) -> None:
    data = words(1)
    got, inside = run(
        f"shfl.sync.{mode}.b32 %y0|%p0, %x0, {b}, {c}, 0xffffffff;\nselp.b32 %y1, 1, 0, %p0;", data, outputs=2
    )
    for thread in range(THREADS):
        source, valid = shfl_source(mode, thread & 31, b, c)
        assert got[thread] == data[thread & ~31 | source], (thread, source)
        assert inside[thread] == valid, thread


def test_shfl_lane_index_of_each_lane() -> None:
    data, indices = words(2), words(3)
    (got,) = run("shfl.sync.idx.b32 %y0, %x0, %x1, 31, 0xffffffff;", data, indices)
    expected = [data[thread & ~31 | int(indices[thread]) & 31] for thread in range(THREADS)]
    assert got.tolist() == expected


def test_shfl_in_divergent_halves() -> None:
    """Odd and even lanes shuffle among themselves, each half with its own mask."""
    data = words(4)
    body = """
    and.b32 %r0, %place, 1;
    setp.ne.u32 %p0, %r0, 0;
    xor.b32 %r1, %place, 2;
    @%p0 bra ODD;
    shfl.sync.idx.b32 %y0, %x0, %r1, 31, 0x55555555;
    bra DONE;
ODD:
    shfl.sync.idx.b32 %y0, %x0, %r1, 31, 0xaaaaaaaa;
DONE:"""
    (got,) = run(body, data)
    assert got.tolist() == [data[thread ^ 2] for thread in range(THREADS)]


VOTES: dict[str, Callable[[list[int]], int]] = {
    "all": lambda p: int(all(p)),
    "any": lambda p: int(any(p)),
    "uni": lambda p: int(len(set(p)) == 1),
}


@pytest.mark.parametrize("mode", [*VOTES, "ballot"])
@pytest.mark.parametrize("negate", ["", "!"])
@pytest.mark.parametrize("pattern", [0, FULL, 1, 0x80000000, 0x12345678])
def test_vote(mode: str, negate: str, pattern: int) -> None:
    flags = np.array([pattern >> (i & 31) & 1 for i in range(THREADS)], dtype=np.uint32)
    target = "%y0" if mode == "ballot" else "%p1"
    kind = "b32" if mode == "ballot" else "pred"
    body = f"setp.ne.u32 %p0, %x0, 0;\nvote.sync.{mode}.{kind} {target}, {negate}%p0, 0xffffffff;\n"
    if mode != "ballot":
        body += "selp.b32 %y0, 1, 0, %p1;"
    (got,) = run(body, flags)
    seen = [int(flag) ^ int(bool(negate)) for flag in flags[:32]]
    expected = sum(bit << i for i, bit in enumerate(seen)) if mode == "ballot" else VOTES[mode](seen)
    assert set(got.tolist()) == {expected}


def test_vote_counts_only_lanes_that_take_part() -> None:
    body = """
    setp.lt.u32 %p0, %place, 12;
    @!%p0 bra DONE;
    setp.ge.u32 %p1, %place, 4;
    vote.sync.ballot.b32 %y0, %p1, 0x00000fff;
    activemask.b32 %y1;
DONE:"""
    ballot, active = run(body, outputs=2)
    assert ballot.tolist() == [0xFF0 if thread & 31 < 12 else 0 for thread in range(THREADS)]
    assert active.tolist() == [0xFFF if thread & 31 < 12 else 0 for thread in range(THREADS)]


def test_activemask_of_a_partial_warp() -> None:
    (got,) = run("activemask.b32 %y0;", threads=40)
    assert got.tolist() == [FULL] * 32 + [0xFF] * 8


@pytest.mark.parametrize("width", [32, 64])
def test_match(width: int) -> None:
    data = words(5) % 5
    value = "%x0" if width == 32 else "%q0"
    body = "mov.b64 %q0, {%r0, %x0};\nmov.b32 %r0, 7;\nmov.b64 %q0, {%r0, %x0};\n"
    body += f"match.any.sync.b{width} %y0, {value}, 0xffffffff;\n"
    body += f"match.all.sync.b{width} %y1|%p0, {value}, 0xffffffff;\nselp.b32 %y2, 1, 0, %p0;"
    some, every, flag = run(body, data, outputs=3)
    for thread in range(THREADS):
        warp = data[thread & ~31 : (thread & ~31) + 32]
        assert some[thread] == sum(1 << i for i, v in enumerate(warp) if v == data[thread])
    assert not every.any()
    assert not flag.any()
    same = np.full(THREADS, 9, dtype=np.uint32)
    _, every, flag = run(body, same, outputs=3)
    assert set(every.tolist()) == {FULL}
    assert set(flag.tolist()) == {1}


@pytest.mark.parametrize("kind", ["u32", "s32"])
@pytest.mark.parametrize("name", ["add", "min", "max"])
def test_redux_integer(name: str, kind: str) -> None:
    data = words(6)
    (got,) = run(f"redux.sync.{name}.{kind} %y0, %x0, 0xffffffff;", data)
    typed = data.astype(np.int64) if kind == "u32" else data.view(np.int32).astype(np.int64)
    for start in (0, 32):
        warp = typed[start : start + 32].tolist()
        total = {"add": sum, "min": min, "max": max}[name](warp) & FULL
        assert set(got[start : start + 32].tolist()) == {total}


@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_redux_bits_of_part_of_a_warp(name: str) -> None:
    data = words(7)
    body = f"setp.ge.u32 %p0, %place, 20;\n@!%p0 redux.sync.{name}.b32 %y0, %x0, 0x000fffff;"
    (got,) = run(body, data)
    for start in (0, 32):
        total = getattr(np, f"bitwise_{name}").reduce(data[start : start + 20])
        assert got[start : start + 32].tolist() == [int(total)] * 20 + [0] * 12


@pytest.mark.parametrize(
    ("name", "expected"), [("min", -3.5), ("max", 27.5), ("min.abs", 0.5), ("max.abs", 27.5), ("min.NaN", -3.5)]
)
def test_redux_float(name: str, expected: float) -> None:
    values = (np.arange(THREADS, dtype=np.float32) % 32) - np.float32(3.5)
    (got,) = run(
        f".reg .f32 %f<2>;\nmov.b32 %f0, %x0;\nredux.sync.{name}.f32 %f1, %f0, 0xffffffff;\nmov.b32 %y0, %f1;",
        values.view(np.uint32),
    )
    assert set(got.view(np.float32).tolist()) == {expected}


def test_elect_chooses_one_lane_of_the_mask() -> None:
    leader, chosen = run("elect.sync %y0|%p0, 0xffffffff;\nselp.b32 %y1, 1, 0, %p0;", outputs=2)
    for start in (0, 32):
        lanes = chosen[start : start + 32]
        assert lanes.sum() == 1
        assert set(leader[start : start + 32].tolist()) == {int(lanes.argmax())}


def test_lane_registers() -> None:
    body = "mov.u32 %y0, %laneid;\nmov.u32 %y1, %lanemask_lt;\nmov.u32 %y2, %lanemask_ge;\nmov.u32 %y3, %warpid;"
    lane, below, above, _ = run(body, outputs=4)
    for thread in range(THREADS):
        place = thread & 31
        assert lane[thread] == place
        assert below[thread] == (1 << place) - 1
        assert above[thread] == FULL & ~((1 << place) - 1)
