"""Loads, stores and atomics: every width, vectors, sign extension, every state space, every atomic operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ptx_formats as exact
import pytest
from ptx_declare import PROLOGUE
from ptx_engine import EngineError, Program
from ptx_formats import BF16, F16, F32, F64

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
THREADS = 96
OFFSETS = """
    .reg .u32 %thread;
    .reg .u64 %in, %out, %offset;
    .reg .pred %p;
    mov.u32 %thread, %tid.x;
    ld.param.u64 %in, [in];
    ld.param.u64 %out, [out];
"""


def copy_kernel(body: str, module: str = "", parameters: str = "") -> str:
    entry = f".visible .entry test(.param .u64 in, .param .u64 out{parameters}) {{"
    return f"{PROLOGUE}{module}\n{entry}{OFFSETS}{body}\n    ret;\n}}\n"


def random_bytes(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(count).integers(0, 256, count, dtype=np.uint8)


CACHES = ("", ".ca", ".cg", ".volatile", ".relaxed.gpu", ".nc")
LOADS = [
    (kind, vector, cache)
    for kind in ("b8", "u16", "b32", "f32", "s64", "f64", "b128")
    for vector in (1, 2, 4)
    for cache in CACHES
    if int(kind[1:]) * vector <= 128 and (kind != "b128" or cache in ("", ".relaxed.gpu"))
]


@pytest.mark.parametrize("space", ["", ".global"])
@pytest.mark.parametrize(("kind", "vector", "cache"), LOADS)
def test_load_and_store(space: str, cache: str, kind: str, vector: int) -> None:
    size = int(kind[1:]) // 8
    if cache == ".nc" and not space:
        space = ".global"
    store_cache = {".nc": "", ".ca": ".wb"}.get(cache, cache)
    if cache == ".volatile":
        order = "ld.volatile{space}", "st.volatile{space}"
    elif cache.startswith(".relaxed"):
        order = "ld.relaxed.gpu{space}", "st.relaxed.gpu{space}"
    else:
        order = "ld{space}" + cache, "st{space}" + store_cache
    load, store = (text.format(space=space) for text in order)
    register = "b16" if kind == "b8" else kind
    names = [f"%v{i}" for i in range(vector)]
    operand = names[0] if vector == 1 else "{" + ", ".join(names) + "}"
    suffix = ("" if vector == 1 else f".v{vector}") + f".{kind}"
    body = f"""
    .reg .{register} %v<4>;
    mul.wide.u32 %offset, %thread, {size * vector};
    add.u64 %in, %in, %offset;
    add.u64 %out, %out, %offset;
    {load}{suffix} {operand}, [%in];
    {store}{suffix} [%out], {operand};"""
    data = random_bytes(THREADS * size * vector + 16)
    start = -data.ctypes.data % 16
    source = data[start : start + THREADS * size * vector]
    target_data = np.zeros(len(source) + 16, dtype=np.uint8)
    start = -target_data.ctypes.data % 16
    target = target_data[start : start + len(source)]
    with Program(copy_kernel(body)) as program:
        program.launch("test", source, target, block=(THREADS,))
    assert target.tobytes() == source.tobytes()


@pytest.mark.parametrize(
    ("kind", "register"),
    [("u8", "u32"), ("s8", "s32"), ("s8", "s64"), ("u16", "u64"), ("s16", "s32"), ("s32", "s64"), ("u32", "u64")],
)
def test_load_extends_to_the_register(kind: str, register: str) -> None:
    size, width = int(kind[1:]) // 8, int(register[1:]) // 8
    body = f"""
    .reg .{register} %v;
    mul.wide.u32 %offset, %thread, {size};
    add.u64 %in, %in, %offset;
    mul.wide.u32 %offset, %thread, {width};
    add.u64 %out, %out, %offset;
    ld.global.{kind} %v, [%in];
    st.global.{register} [%out], %v;"""
    source = random_bytes(THREADS * size).view(UNSIGNED[size])
    target = np.zeros(THREADS, dtype=UNSIGNED[width])
    with Program(copy_kernel(body)) as program:
        program.launch("test", source, target, block=(THREADS,))
    signed = source.view(f"i{size}") if kind[0] == "s" else source
    assert (
        target.tolist() == signed.astype(f"i{width}" if kind[0] == "s" else f"u{width}").view(UNSIGNED[width]).tolist()
    )


def test_vector_load_into_a_sink_and_immediate_store() -> None:
    body = """
    .reg .b32 %a, %b;
    mul.wide.u32 %offset, %thread, 16;
    add.u64 %in, %in, %offset;
    add.u64 %out, %out, %offset;
    ld.global.v4.b32 {%a, _, %b, _}, [%in];
    st.global.v4.b32 [%out], {%b, 7, %a, -1};"""
    source = random_bytes(THREADS * 16).view(np.uint32).reshape(THREADS, 4)
    target = np.zeros_like(source)
    with Program(copy_kernel(body)) as program:
        program.launch("test", source, target, block=(THREADS,))
    expected = np.stack([source[:, 2], np.full(THREADS, 7), source[:, 0], np.full(THREADS, 0xFFFFFFFF)], axis=1)
    assert target.tolist() == expected.tolist()


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("space", ["shared", "local", "const", "global"])
def test_state_spaces(space: str, generic: bool) -> None:
    """A value through each space, by its own address and by its generic one."""
    table = ", ".join(str(3 * i + 1) for i in range(THREADS))
    module = {
        "shared": ".shared .align 8 .b8 room[1024];",
        "local": "",
        "const": f".const .align 4 .u32 room[{THREADS}] = {{{table}}};",
        "global": f".global .align 4 .u32 room[{THREADS}] = {{{table}}};",
    }[space]
    declaration = ".local .align 8 .b8 room[1024];" if space == "local" else ""
    form = "" if generic else f".{space}"
    body = f"""
    {declaration}
    .reg .u64 %room;
    .reg .u32 %v;
    mul.wide.u32 %offset, %thread, 4;
    add.u64 %in, %in, %offset;
    add.u64 %out, %out, %offset;
    ld.global.u32 %v, [%in];
    mov.u64 %room, room;
    {f"cvta.{space}.u64 %room, %room;" if generic else ""}
    add.u64 %room, %room, %offset;
    {"" if space == "const" else f"st{form}.u32 [%room], %v;"}
    ld{form}.u32 %v, [%room];
    st.global.u32 [%out], %v;"""
    source = random_bytes(THREADS * 4).view(np.uint32)
    target = np.zeros(THREADS, dtype=np.uint32)
    with Program(copy_kernel(body, module)) as program:
        program.launch("test", source, target, block=(THREADS,))
    expected = [3 * i + 1 for i in range(THREADS)] if space == "const" else source.tolist()
    assert target.tolist() == expected


def test_isspacep_and_cvta_to() -> None:
    module = ".shared .align 4 .b8 room[64];\n.global .u32 place;"
    body = (
        """
    .reg .u64 %g<4>;
    .reg .u32 %v, %bit;
    .local .align 4 .b8 mine[16];
    mov.u32 %v, 0;
    mov.u64 %g0, room;
    cvta.shared.u64 %g0, %g0;
    mov.u64 %g1, place;
    cvta.global.u64 %g1, %g1;
    mov.u64 %g2, mine;
    cvta.local.u64 %g2, %g2;
"""
        + "".join(
            f"""    isspacep.{space} %p, %g{i};
    selp.b32 %bit, {1 << (3 * i + j)}, 0, %p;
    or.b32 %v, %v, %bit;
"""
            for i in range(3)
            for j, space in enumerate(("shared", "global", "local"))
        )
        + """
    mul.wide.u32 %offset, %thread, 4;
    add.u64 %out, %out, %offset;
    st.global.u32 [%out], %v;"""
    )
    target = np.zeros(THREADS, dtype=np.uint32)
    with Program(copy_kernel(body, module)) as program:
        program.launch("test", target, target, block=(THREADS,))
    assert set(target.tolist()) == {0b100_010_001}


def _wrap(operation: Callable[[int, int], int], width: int) -> Callable[[int, int], int]:
    return lambda a, b: operation(a, b) & ((1 << width) - 1)


def _signed(operation: Callable[[int, int], int], width: int) -> Callable[[int, int], int]:
    def number(bits: int) -> int:
        return bits - (1 << width) if bits >> (width - 1) else bits

    return lambda a, b: operation(number(a), number(b)) & ((1 << width) - 1)


def _halves(form: exact.Format, operation: Callable[..., int]) -> Callable[[int, int], int]:
    return lambda a, b: operation(form, a >> 16, b >> 16) << 16 | operation(form, a & 0xFFFF, b & 0xFFFF)


ATOMICS: dict[str, Callable[[int, int], int]] = {
    **{
        f"{name}.b{w}": _wrap(f, w)
        for w in (32, 64)
        for name, f in {"and": int.__and__, "or": int.__or__, "xor": int.__xor__, "exch": lambda a, b: b}.items()
    },
    **{f"add.u{w}": _wrap(int.__add__, w) for w in (32, 64)},
    "add.s32": _wrap(int.__add__, 32),
    **{f"{name}.u{w}": _wrap(f, w) for w in (32, 64) for name, f in {"min": min, "max": max}.items()},
    **{f"{name}.s{w}": _signed(f, w) for w in (32, 64) for name, f in {"min": min, "max": max}.items()},
    "inc.u32": lambda a, b: 0 if a >= b else a + 1,
    "dec.u32": lambda a, b: b if a == 0 or a > b else a - 1,
    "add.f32": lambda a, b: exact.add(F32, a, b),
    "add.f64": lambda a, b: exact.add(F64, a, b),
    "add.noftz.f16": lambda a, b: exact.add(F16, a, b),
    "add.noftz.bf16": lambda a, b: exact.add(BF16, a, b),
    "add.noftz.f16x2": _halves(F16, exact.add),
    "add.noftz.bf16x2": _halves(BF16, exact.add),
}


def atomic_operands(name: str, count: int) -> list[int]:
    """Small integers for the float forms, so that every order of additions gives the same sum; any bits otherwise."""
    kind = name.rsplit(".", 1)[1]
    source = np.random.default_rng(len(name))
    form = {"f32": F32, "f64": F64, "f16": F16, "bf16": BF16, "f16x2": F16, "bf16x2": BF16}.get(kind)
    if form is None:
        width = int(kind[1:])
        return [int(v) for v in source.integers(0, (1 << width) - 1, count, dtype=np.uint64)]
    values = [exact.from_integer(form, int(v)) for v in source.integers(-2, 3, count)]
    return [v << 16 | v for v in values] if kind.endswith("x2") else values


@pytest.mark.parametrize("space", ["global", "shared", "generic"])
@pytest.mark.parametrize("name", ATOMICS)
def test_atomic_of_one_thread(name: str, space: str) -> None:
    """Each thread has a cell of its own: the old value comes back, the new one is stored."""
    kind = name.rsplit(".", 1)[1]
    size = {"f32": 4, "f64": 8, "f16": 2, "bf16": 2, "f16x2": 4, "bf16x2": 4}.get(kind) or int(kind[1:]) // 8
    register = {"f16": "b16", "bf16": "b16", "f16x2": "b32", "bf16x2": "b32"}.get(kind, kind)
    form = "" if space == "generic" else f".{space}"
    stage = space == "shared"
    body = f"""
    .reg .{register} %v, %old;
    .reg .u64 %cell, %operand;
    mul.wide.u32 %offset, %thread, {size};
    add.u64 %in, %in, %offset;
    add.u64 %out, %out, %offset;
    ld.param.u64 %operand, [operands];
    add.u64 %operand, %operand, %offset;
    ld.global.{"b16" if size == 2 else register} %v, [%operand];
    mov.u64 %cell, {"room" if stage else "%in"};
    {"add.u64 %cell, %cell, %offset;" if stage else ""}
    {f"ld.global.b{8 * size} %old, [%in]; st.shared.b{8 * size} [%cell], %old;" if stage else ""}
    atom{form}.{name} %old, [%cell], %v;
    st.global.b{8 * size} [%out], %old;
    {f"ld.shared.b{8 * size} %old, [%cell]; st.global.b{8 * size} [%in], %old;" if stage else ""}"""
    module = ".shared .align 8 .b8 room[1024];"
    first = atomic_operands(name, 2 * THREADS)
    cells = np.array(first[:THREADS], dtype=UNSIGNED[size])
    operands = np.array(first[THREADS:], dtype=UNSIGNED[size])
    expected = [ATOMICS[name](int(a), int(b)) for a, b in zip(cells, operands, strict=True)]
    before = cells.copy()
    old = np.zeros(THREADS, dtype=UNSIGNED[size])
    with Program(copy_kernel(body, module, ", .param .u64 operands")) as program:
        program.launch("test", cells, old, operands, block=(THREADS,))
    assert old.tolist() == before.tolist()
    assert cells.tolist() == expected


ORDERLESS = [name for name in ATOMICS if not name.startswith(("exch", "inc", "dec"))]


@pytest.mark.parametrize("instruction", ["atom", "red"])
@pytest.mark.parametrize("name", ORDERLESS)
def test_contended_atomic(name: str, instruction: str) -> None:
    """All threads of several blocks update one cell; the sum (minimum, ...) does not depend on the order."""
    kind = name.rsplit(".", 1)[1]
    size = {"f32": 4, "f64": 8, "f16": 2, "bf16": 2, "f16x2": 4, "bf16x2": 4}.get(kind) or int(kind[1:]) // 8
    register = {"f16": "b16", "bf16": "b16", "f16x2": "b32", "bf16x2": "b32"}.get(kind, kind)
    blocks = 4
    result = "%old, " if instruction == "atom" else ""
    body = f"""
    .reg .{register} %v, %old;
    .reg .u32 %block, %threads, %place;
    mov.u32 %block, %ctaid.x;
    mov.u32 %threads, %ntid.x;
    mad.lo.u32 %place, %block, %threads, %thread;
    mul.wide.u32 %offset, %place, {size};
    add.u64 %in, %in, %offset;
    ld.global.b{8 * size} %v, [%in];
    {instruction}.global.{name} {result}[%out], %v;"""
    values = atomic_operands(name, blocks * THREADS)
    if form := {"f16": F16, "bf16": BF16, "f16x2": F16, "bf16x2": BF16}.get(kind):
        # Sums stay within +-THREADS/2 steps of 1, exact in eight bits.
        plus, minus = exact.from_integer(form, 1), exact.from_integer(form, -1)
        values = [(plus, minus)[i & 1] for i in range(blocks * THREADS)]
        values[0] = exact.from_integer(form, 5)
        if kind.endswith("x2"):
            values = [v << 16 | v for v in values]
    cell = np.array([values[0]], dtype=UNSIGNED[size])
    source = np.array(values, dtype=UNSIGNED[size])
    expected = int(cell[0])
    for value in values:
        expected = ATOMICS[name](expected, value)
    with Program(copy_kernel(body)) as program:
        program.launch("test", source, cell, grid=(blocks,), block=(THREADS,))
    assert int(cell[0]) == expected


@pytest.mark.parametrize("scope", ["", ".relaxed.cta", ".acq_rel.gpu", ".release.sys"])
def test_increments_are_counted_once_each(scope: str) -> None:
    """The old values of an atomic counter are a permutation of 0..n-1."""
    body = f"""
    .reg .u32 %old, %block, %threads, %place;
    atom{scope}.global.add.u32 %old, [%in], 1;
    mov.u32 %block, %ctaid.x;
    mov.u32 %threads, %ntid.x;
    mad.lo.u32 %place, %block, %threads, %thread;
    mul.wide.u32 %offset, %place, 4;
    add.u64 %out, %out, %offset;
    st.global.u32 [%out], %old;"""
    blocks = 1 if "cta" in scope else 6
    counter, seen = np.zeros(1, dtype=np.uint32), np.zeros(blocks * THREADS, dtype=np.uint32)
    with Program(copy_kernel(body)) as program:
        program.launch("test", counter, seen, grid=(blocks,), block=(THREADS,))
    assert counter[0] == blocks * THREADS
    assert sorted(seen.tolist()) == list(range(blocks * THREADS))


@pytest.mark.parametrize("width", [16, 32, 64, 128])
def test_compare_and_swap(width: int) -> None:
    """Even threads find what they expect and swap, odd ones do not."""
    size = width // 8
    wide = width == 128
    make = (
        ".reg .u64 %low, %twice;\n    cvt.u64.u32 %low, %thread;\n    add.u64 %twice, %low, 1000;\n"
        "    mov.b128 %new, {%twice, %low};\n    and.b64 %low, %low, -2;\n    mov.b128 %want, {%low, %low};"
        if wide
        else f".reg .u{width} %wide;\n    cvt.u{width}.u32 %wide, %thread;\n    add.u{width} %new, %wide, 1000;\n"
        f"    and.b{width} %want, %wide, -2;"
    )
    body = f"""
    .reg .b{width} %old, %new, %want;
    {make}
    mul.wide.u32 %offset, %thread, {size};
    add.u64 %in, %in, %offset;
    add.u64 %out, %out, %offset;
    atom.global.cas.b{width} %old, [%in], %want, %new;
    st.global.b{width} [%out], %old;"""
    if wide:
        room = np.zeros((THREADS + 1, 2), dtype=np.uint64).reshape(-1)
        start = (-room.ctypes.data % 16) // 8
        cells = room[start : start + 2 * THREADS]
        cells[:] = np.repeat(np.arange(THREADS, dtype=np.uint64), 2)
        old_room = np.zeros(2 * THREADS + 2, dtype=np.uint64)
        start = (-old_room.ctypes.data % 16) // 8
        old = old_room[start : start + 2 * THREADS]
    else:
        cells = np.arange(THREADS, dtype=UNSIGNED[size])
        old = np.zeros(THREADS, dtype=UNSIGNED[size])
    before = cells.copy()
    with Program(copy_kernel(body)) as program:
        program.launch("test", cells, old, block=(THREADS,))
    assert old.tolist() == before.tolist()
    if wide:
        expected = [v for i in range(THREADS) for v in ((i + 1000, i) if i % 2 == 0 else (i, i))]
    else:
        expected = [i + 1000 if i % 2 == 0 else i for i in range(THREADS)]
    assert cells.tolist() == expected


def test_faults_name_their_kind() -> None:
    read = """
    .reg .u32 %v;
    mul.wide.u32 %offset, %thread, 4;
    add.u64 %in, %in, %offset;
    ld.global.u32 %v, [%in+{displacement}];
    st.global.u32 [%out], %v;"""
    data, target = np.zeros(THREADS, dtype=np.uint32), np.zeros(1, dtype=np.uint32)
    with Program(copy_kernel(read.format(displacement=2))) as program, pytest.raises(EngineError) as misaligned:
        program.launch("test", data, target, block=(THREADS,))
    assert misaligned.value.fault == "misaligned_address"
    with Program(copy_kernel(read.format(displacement=1 << 30))) as program, pytest.raises(EngineError) as outside:
        program.launch("test", data, target, block=(THREADS,))
    assert outside.value.fault == "illegal_address"
    with Program(copy_kernel("    trap;")) as program, pytest.raises(EngineError) as trapped:
        program.launch("test", data, target, block=(THREADS,))
    assert trapped.value.fault == "trap"
