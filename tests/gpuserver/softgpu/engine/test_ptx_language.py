"""The PTX language beyond single instructions: declarations, linking, control flow, calls, and what is no PTX."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest

from tests.gpuserver.softgpu.ptx_instructions.ptx_engine import EngineError, Program, library

I32 = np.int32
HEAD = ".version 9.0\n.target sm_90\n.address_size 64\n"


def kernel(body: str, parameters: str = ".param .u64 out", before: str = "") -> str:
    """A kernel `test` that finds its thread in %t and the address of its result of 4 bytes in %o."""
    return f"""{HEAD}{before}
.visible .entry test({parameters}) {{
    .reg .pred %p<10>; .reg .b16 %h<10>; .reg .b32 %r<40>; .reg .b64 %d<20>; .reg .f32 %f<10>;
    .reg .b32 %t; .reg .b64 %o;
    mov.u32 %t, %tid.x;
    ld.param.u64 %o, [out];
    mad.wide.u32 %o, %t, 4, %o;
    {body}
    st.global.u32 [%o], %r0;
    ret;
}}
"""


def run(text: str, threads: int = 32, **options: object) -> list[int]:
    out = np.zeros(threads, np.uint32)
    with Program(text) as program:
        program.launch("test", out, block=(threads,), **options)  # type: ignore[arg-type]
    return [int(v) for v in out]


def link(*texts: str) -> ctypes.c_void_p:
    """Several texts as one program; raises EngineError."""
    function = library().softgpu_test_link
    function.restype = ctypes.c_void_p
    array = (ctypes.c_char_p * len(texts))(*(t.encode() for t in texts))
    error = ctypes.create_string_buffer(2000)
    handle = function(array, ctypes.c_uint32(len(texts)), error, ctypes.c_uint64(len(error)))
    if not handle:
        raise EngineError("compile", error.value.decode())
    return ctypes.c_void_p(handle)


def linked_program(*texts: str) -> Program:
    program = Program.__new__(Program)
    program._handle = link(*texts).value
    return program


def test_indexed_branch() -> None:
    body = """
    and.b32 %r1, %t, 3;
    targets: .branchtargets A, B, C, A;
    brx.idx %r1, targets;
A:  mov.u32 %r0, 10; bra END;
B:  mov.u32 %r0, 11; bra.uni END;
C:  mov.u32 %r0, 12;
END:
"""
    assert run(kernel(body)) == [(10, 11, 12, 10)[i & 3] for i in range(32)]


def test_labels_belong_to_their_block() -> None:
    """Inline assembler brings the same label each time; an inner one hides an outer one."""
    block = "{ .reg .pred done; AGAIN: add.u32 %r0, %r0, 1; setp.ge.u32 %p1, %r0, BOUND; @!%p1 bra.uni AGAIN; }"
    body = "mov.u32 %r0, 0;\n" + "\n".join(block.replace("BOUND", str(bound)) for bound in (5, 20, 21))
    assert run(kernel(body)) == [21] * 32
    body = """
    mov.u32 %r0, 0;
    bra OUT;
    { bra OUT; add.u32 %r0, %r0, 100; OUT: add.u32 %r0, %r0, 1; }
    add.u32 %r0, %r0, 10;
OUT: add.u32 %r0, %r0, 1000;
"""
    assert run(kernel(body)) == [1000] * 32


def test_indexed_branch_past_the_list() -> None:
    body = "targets: .branchtargets A, A;\n brx.idx %t, targets;\nA: mov.u32 %r0, 1;"
    with pytest.raises(EngineError) as failure:
        run(kernel(body))
    assert failure.value.fault == "invalid_pc"


def test_guards_and_predicate_logic() -> None:
    body = """
    setp.lt.u32 %p1|%p2, %t, 8;
    setp.ge.and.u32 %p3, %t, 4, !%p2;
    mov.u32 %r0, 0;
    @%p1 add.u32 %r0, %r0, 1;
    @!%p1 add.u32 %r0, %r0, 2;
    @%p3 add.u32 %r0, %r0, 100;
    xor.pred %p4, %p1, %p3;
    not.pred %p5, %p4;
    selp.u32 %r1, 1000, 0, %p5;
    add.u32 %r0, %r0, %r1;
    @%p1 setp.eq.u32 %p1, %t, 3;
    @%p1 add.u32 %r0, %r0, 5000;
"""
    expected = []
    for t in range(32):
        p1, p3 = t < 8, 4 <= t < 8
        value = (1 if p1 else 2) + (100 if p3 else 0) + (0 if p1 != p3 else 1000)
        expected.append(value + (5000 if t == 3 else 0))
    assert run(kernel(body)) == expected


def test_a_guard_may_be_overwritten_by_its_instruction() -> None:
    # set.f16x2-like steps within one instruction must all go by the old guard.
    body = """
    setp.lt.u32 %p1, %t, 16;
    mov.b32 %r1, 0x3c004000;
    mov.b32 %r2, 0x40003c00;
    mov.u32 %r0, 9;
    @%p1 setp.lt.f16x2 %p1|%p2, %r1, %r2;
    @%p1 mov.u32 %r0, 1;
    @%p2 add.u32 %r0, %r0, 10;
"""
    # Lanes from 16 on keep %p1 false; %p2 is undefined there, so only the others are looked at.
    assert run(kernel(body))[:16] == [19] * 16


def test_packing() -> None:
    body = """
    cvt.u16.u32 %h1, %t;
    mov.b32 %r1, {%h1, %h2};
    mov.u16 %h2, 0x1234;
    mov.b32 %r1, {%h1, %h2};
    mov.b32 {%h3, %h4}, %r1;
    mov.b64 %d1, {%r1, %t};
    mov.b64 {_, %r2}, %d1;
    mov.b64 {%h5, %h6, %h7, %h8}, %d1;
    cvt.u32.u16 %r3, %h6;
    cvt.u32.u16 %r4, %h4;
    sub.u32 %r3, %r3, %r4;
    add.u32 %r0, %r2, %r3;
"""
    assert run(kernel(body)) == list(range(32))


def test_calls_with_registers_and_param_space() -> None:
    before = """
.func (.reg .u32 r) twice (.reg .u32 a) { add.u32 r, a, a; ret; }
.func (.param .b32 r) sum3 (.param .b32 a, .param .align 8 .b8 s[16], .param .b32 c) {
    .reg .b32 %x<4>;
    ld.param.b32 %x0, [a];
    ld.param.b32 %x1, [s+8];
    ld.param.b32 %x2, [c];
    add.u32 %x0, %x0, %x1;
    add.u32 %x0, %x0, %x2;
    st.param.b32 [r], %x0;
    ret;
}
"""
    body = """
    call (%r1), twice, (%t);
    call.uni (%r2), twice, (21);
    {
    .param .align 8 .b8 s[16]; .param .b32 a; .param .b32 c; .param .b32 r;
    st.param.v2.b32 [s], {%r1, %r1};
    st.param.b32 [s+8], %r2;
    st.param.b32 [a], %r1;
    st.param.b32 [c], 7;
    call (r), sum3, (a, s, c);
    ld.param.b32 %r0, [r];
    }
"""
    assert run(kernel(body, before=before)) == [2 * t + 42 + 7 for t in range(32)]


def test_call_through_a_pointer_with_lanes_going_different_ways() -> None:
    before = """
.func (.param .b32 r) f0 (.param .b32 a) {
    .reg .b32 %x; ld.param.b32 %x, [a]; add.u32 %x, %x, 100; st.param.b32 [r], %x; ret;
}
.func (.param .b32 r) f1 (.param .b32 a) {
    .reg .b32 %x; ld.param.b32 %x, [a]; mul.lo.u32 %x, %x, 3; st.param.b32 [r], %x; ret;
}
.global .u64 functions[2] = {f0, f1};
"""
    body = """
    and.b32 %r1, %t, 1;
    mov.u64 %d1, functions;
    mad.wide.u32 %d1, %r1, 8, %d1;
    ld.global.u64 %d2, [%d1];
    {
    .param .b32 a; .param .b32 r;
    st.param.b32 [a], %t;
    prototype: .callprototype (.param .b32 _) _ (.param .b32 _);
    call (r), %d2, (a), prototype;
    ld.param.b32 %r0, [r];
    }
"""
    assert run(kernel(body, before=before)) == [3 * t if t & 1 else t + 100 for t in range(32)]


def test_variables_and_initial_values() -> None:
    before = """
.const .align 4 .u32 c[4] = {1, 2+3*4, (7 << 2) | 1, -1};
.global .align 8 .b8 bytes[8] = {0x10, 0x20, 0xFF(c), 0xFF00(c), 5};
.global .f32 single = 1.5;
.global .f64 wide[2] = {0d3FF8000000000000, 2.5};
.global .u64 pointer = generic(c)+8;
.global .u32 matrix[2][2] = {{1, 2}, {3}};
.shared .align 16 .b8 s[64];
"""
    body = """
    ld.const.u32 %r1, [c+4];
    ld.global.u64 %d1, [pointer];
    ld.u32 %r2, [%d1];
    ld.global.f32 %f1, [single];
    cvt.rzi.u32.f32 %r3, %f1;
    ld.global.u32 %r4, [matrix+8];
    ld.global.u8 %r5, [bytes+2];
    mov.u64 %d2, c;
    cvt.u32.u64 %r6, %d2;
    and.b32 %r6, %r6, 255;
    sub.u32 %r5, %r5, %r6;
    st.shared.u32 [s+4], %r4;
    bar.sync 0;
    ld.shared.u32 %r7, [s+4];
    add.u32 %r0, %r1, %r2;
    add.u32 %r0, %r0, %r3;
    add.u32 %r0, %r0, %r7;
    add.u32 %r0, %r0, %r5;
"""
    assert set(run(kernel(body, before=before))) == {14 + 29 + 1 + 3}


def test_dynamic_shared_memory_follows_static() -> None:
    before = ".extern .shared .align 16 .b8 dynamic[];\n.shared .u32 fixed[3];\n"
    body = """
    mov.u32 %r1, dynamic;
    mov.u32 %r2, fixed;
    sub.u32 %r0, %r1, %r2;
    mad.lo.u32 %r3, %t, 4, %r1;
    st.shared.u32 [%r3], %t;
    st.shared.u32 [fixed+8], 5;
    ld.shared.u32 %r4, [%r3];
    add.u32 %r0, %r0, %r4;
"""
    values = run(kernel(body, before=before), shared_bytes=128)
    assert values[0] % 16 == 0
    assert values[0] >= 12
    assert values == [values[0] + t for t in range(32)]


def test_stack_of_a_function() -> None:
    body = """
    mov.u64 %d1, 40;
    alloca.u64 %d2, %d1, 16;
    cvta.local.u64 %d3, %d2;
    st.u32 [%d3+36], %t;
    ld.local.u32 %r0, [%d2+36];
    isspacep.local %p1, %d3;
    @!%p1 mov.u32 %r0, 0xdead;
    add.u32 %r0, %r0, 1;
"""
    body = body.replace("alloca", "stacksave.u64 %d4;\n alloca").replace("isspacep", "stackrestore.u64 %d4;\n isspacep")
    before = (
        ".func needs_a_stack() { .local .b8 room[256]; .reg .b64 %x; mov.u64 %x, room; call needs_a_stack; ret; }\n"
    )
    text = kernel(body + "\n setp.eq.u32 %p2, %t, 99;\n @%p2 call needs_a_stack;", before=before)
    assert run(text) == [t + 1 for t in range(32)]


def test_memory_that_a_thread_takes_from_its_stack() -> None:
    """No call in sight: how much stack the kernel needs is known only when it runs."""
    body = """
    add.u32 %r1, %t, 100;
    cvt.u64.u32 %d1, %r1;
    alloca.u64 %d2, %d1, 16;
    add.u64 %d3, %d2, %d1;
    st.local.u8 [%d3-1], %t;
    ld.local.u8 %r0, [%d3-1];
"""
    assert run(kernel(body)) == list(range(32))
    with pytest.raises(EngineError) as failure:
        run(kernel(body.replace("100", "0x7fffffff")))
    assert failure.value.fault == "stack_overflow"


def test_linking_of_several_texts() -> None:
    first = (
        HEAD
        + """
.extern .func (.param .b32 r) helper (.param .b32 a);
.extern .global .u32 scale;
.weak .func (.param .b32 r) chosen () { st.param.b32 [r], 1; ret; }
.visible .entry test(.param .u64 out) {
    .reg .b32 %r<5>; .reg .b64 %o; .param .b32 a; .param .b32 r; .param .b32 q;
    mov.u32 %r1, %tid.x;
    st.param.b32 [a], %r1;
    call (r), helper, (a);
    ld.param.b32 %r2, [r];
    ld.global.u32 %r3, [scale];
    mul.lo.u32 %r2, %r2, %r3;
    call (q), chosen;
    ld.param.b32 %r4, [q];
    add.u32 %r2, %r2, %r4;
    ld.param.u64 %o, [out];
    mad.wide.u32 %o, %r1, 4, %o;
    st.global.u32 [%o], %r2;
    ret;
}
"""
    )
    second = (
        HEAD
        + """
.visible .global .u32 scale = 10;
.global .u32 hidden = 3;
.visible .func (.param .b32 r) helper (.param .b32 a) {
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [a];
    ld.global.u32 %r2, [hidden];
    add.u32 %r1, %r1, %r2;
    st.param.b32 [r], %r1;
    ret;
}
.visible .func (.param .b32 r) chosen () { st.param.b32 [r], 2; ret; }
"""
    )
    out = np.zeros(32, np.uint32)
    with linked_program(first, second) as program:
        program.launch("test", out)
    assert out.tolist() == [(t + 3) * 10 + 2 for t in range(32)]
    with pytest.raises(EngineError, match="'helper' is declared but defined nowhere"):
        link(first)
    with pytest.raises(EngineError, match="already defined"):
        link(first, second, second)


def test_a_function_that_returns_less_than_another_unit_declares() -> None:
    """Linkers look at names alone: numba declares C functions without a result as returning one."""
    first = (
        HEAD
        + """
.extern .func (.param .b32 r) consume (.param .b64 a, .param .b32 b);
.visible .entry test(.param .u64 out) {
    .reg .b32 %r<3>; .reg .b64 %o; .param .b64 a; .param .b32 b; .param .b32 r;
    mov.u32 %r1, %tid.x;
    ld.param.u64 %o, [out];
    mad.wide.u32 %o, %r1, 4, %o;
    st.param.b64 [a], %o;
    st.param.b32 [b], %r1;
    call.uni (r), consume, (a, b);
    ret;
}
"""
    )
    body = "{ .reg .b64 %o; .reg .b32 %r; ld.param.u64 %o, [a]; ld.param.u32 %r, [b]; st.u32 [%o], %r; ret; }"
    second = HEAD + f".visible .func consume (.param .b64 a, .param .b32 b) {body}"
    out = np.full(32, 99, np.uint32)
    with linked_program(first, second) as program:
        program.launch("test", out)
    assert out.tolist() == list(range(32))
    with pytest.raises(EngineError, match="the function takes 1 arguments and returns 0 values"):
        link(first, HEAD + ".visible .func consume (.param .b64 a) { ret; }")
    # Within one unit it is a mistake.
    with pytest.raises(EngineError, match="the function takes 2 arguments and returns 0 values"):
        link(second + first.split("consume (.param .b64 a, .param .b32 b);")[1])


def test_instruction_that_the_software_gpu_does_not_execute() -> None:
    body = """
    setp.eq.u32 %p1, %t, 77;
    mov.u32 %r0, 4;
    @!%p1 bra AROUND;
    wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {%f1,%f2}, {%r1,%r2}, {%r3,%r4}, {%f3,%f4};
AROUND:
"""
    assert run(kernel(body)) == [4] * 32
    with pytest.raises(EngineError) as failure:
        run(kernel(body.replace("77", "7")))
    assert failure.value.fault == "illegal_instruction"
    assert "'wmma'" in str(failure.value)
    assert "kernel test" in str(failure.value)
    assert "thread (7,0,0)" in str(failure.value)


@pytest.mark.parametrize(
    ("instruction", "name"),
    [
        (
            "mma.sp.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, "
            "{%r1,%r2,%r5,%r6}, {%f1,%f2,%f3,%f4}, %r1, 0;",
            "mma",
        ),
        ("wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r8}, [%d1], %r9;", "wmma"),
        ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1,%f2,%f3,%f4}, %d1, %d2, %p1, 1, 1, 0, 0;", "wgmma"),
        ("wgmma.fence.sync.aligned;", "wgmma"),
        ("ldmatrix.sync.aligned.m8n16.x1.shared.b8x16.b6x16_p32 {%r1}, [%r5];", "ldmatrix"),
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], "
            "[%d1, {%r2, %r3}], [%r4];",
            "cp",
        ),
        ("cp.async.bulk.commit_group;", "cp"),
        ("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r1], 32;", "tcgen05"),
        ("tcgen05.ld.sync.aligned.32x32b.x1.b32 {%r1}, [%r2];", "tcgen05"),
        ("tensormap.replace.tile.global_address.global.b1024.b64 [%d1], %d2;", "tensormap"),
        ("tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [texture, {%f5,%f6}];", "tex"),
        ("suld.b.1d.v2.b32.trap {%r1,%r2}, [surface, {%r3}];", "suld"),
        ("sust.b.2d.b32.clamp [surface, {%r1,%r2}], {%r3};", "sust"),
        ("vadd.s32.s32.s32.sat %r1, %r2, %r3;", "vadd"),
        ("multimem.red.relaxed.sys.global.add.f32 [%d1], %f1;", "multimem"),
        ("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r1], %r2, [%r3];", "st"),
    ],
)
def test_instructions_of_other_units_fail_when_reached(instruction: str, name: str) -> None:
    before = ".global .texref texture;\n.global .surfref surface;\n"
    body = f"mov.u32 %r0, 3;\nsetp.eq.u32 %p2, %t, 99;\n@!%p2 bra AROUND;\n{instruction}\nAROUND:"
    assert run(kernel(body, before=before)) == [3] * 32
    with pytest.raises(EngineError) as failure:
        run(kernel(body.replace("99", "0"), before=before))
    assert failure.value.fault == "illegal_instruction"
    assert f"'{name}'" in str(failure.value)


def test_collectives_of_diverged_lanes_meet() -> None:
    # Both halves reach a vote for all lanes, at two places: they must not wait for each other for ever.
    body = """
    setp.lt.u32 %p1, %t, 16;
    @%p1 bra LOW;
    vote.sync.ballot.b32 %r0, 1, 0xffff0000;
    bra DONE;
LOW:
    vote.sync.ballot.b32 %r0, 1, 0x0000ffff;
DONE:
    vote.sync.ballot.b32 %r1, 1, 0xffffffff;
    add.u32 %r0, %r0, %r1;
"""
    assert run(kernel(body)) == [(0xFFFF - 1) & 0xFFFFFFFF] * 16 + [(0xFFFF0000 - 1) & 0xFFFFFFFF] * 16


def test_mbarrier() -> None:
    before = ".shared .align 8 .b64 bar;\n.shared .u32 box[64];\n"
    body = """
    setp.ne.u32 %p1, %t, 0;
    @!%p1 mbarrier.init.shared.b64 [bar], 64;
    bar.sync 0;
    mov.u32 %r1, box;
    mad.lo.u32 %r1, %t, 4, %r1;
    st.shared.u32 [%r1], %t;
    mbarrier.arrive.shared.b64 %d1, [bar];
WAIT:
    mbarrier.try_wait.shared.b64 %p2, [bar], %d1;
    @!%p2 bra WAIT;
    xor.b32 %r2, %t, 63;
    mov.u32 %r3, box;
    mad.lo.u32 %r3, %r2, 4, %r3;
    ld.shared.u32 %r0, [%r3];
    mbarrier.test_wait.parity.shared.b64 %p3, [bar], 0;
    @!%p3 mov.u32 %r0, 1000;
"""
    assert run(kernel(body, before=before), threads=64) == [63 - t for t in range(64)]


def words(instruction: str) -> str:
    return HEAD + f".entry k() {{ .reg .b32 %r<4>;\n{instruction} }}"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected .version"),
        ("hello", 1, "expected .version"),
        (".version 9.0\n.target sm_90\n.entry k(", 3, "expected .param or .reg"),
        (HEAD + ".entry k() { bogus.u32 %r1; }", 4, "unknown instruction 'bogus'"),
        (HEAD + ".entry k() { add.u32 %r1, %r2, %r3; }", 4, "'%r1' is not declared"),
        (HEAD + ".entry k() { .reg .b32 %r<2>; add.u32 %r1, %r0, %r2; }", 4, "'%r2' is not declared"),
        (HEAD + ".entry k() {\n .reg .b32 %r<4>;\n add.u32 %r1, %r2; }", 6, "operand 3 is missing"),
        (HEAD + ".entry k() {\n .reg .b32 %r<4>;\n add.q32 %r1, %r2, %r3; }", 6, "a type is missing"),
        (HEAD + ".entry k() {\n .reg .b64 %r<4>;\n add.u32 %r1, %r2, %r3; }", 6, "register of 32 bits"),
        (HEAD + ".entry k() { bra NOWHERE; }", 4, "'NOWHERE' is not declared"),
        (HEAD + ".entry k() { A: A: ret; }", 4, "label 'A' is defined twice"),
        (HEAD + ".entry k() { ret; }\n.entry k() { ret; }", 5, "function 'k' is defined twice"),
        (HEAD + ".global .u32 x;\n.global .u32 x;", 5, "variable 'x' is defined twice"),
        (HEAD + ".entry k() { ret;", 4, "{ without }"),
        (HEAD + "/* never closed", 4, "comment without"),
        (HEAD + '.entry k() { .pragma "open; }', 4, "string without closing quote"),
        (HEAD + ".global .u32 x = 0f12;", 4, "hexadecimal digits"),
        (HEAD + ".global .u32 x[2] = {1, 2, 3};", 4, "more initial values than elements"),
        (HEAD + ".global .u32 x = 1/0;", 4, "division by zero"),
        (HEAD + ".global .align 3 .u32 x;", 4, "power of two"),
        (HEAD + ".entry k() { call missing; }", 4, "'missing' is not declared"),
        (HEAD + ".func f();\n.entry k() { call f; }", 5, "'f' is declared but defined nowhere"),
        (HEAD + ".entry k() { .reg .b32 %r; mov.u32 %r, \x01; }", 4, "byte 0x01 is not PTX"),
        (".version 99.0\n.target sm_90\n", 1, "PTX version 99.0 is not known"),
        (HEAD + ".global .u32 x = " + "(" * 5000, 4, "nested too deeply"),
        (HEAD + ".entry k() " + "{" * 5000, 4, "nested too deeply"),
        (HEAD + ".entry k() { .reg .b32 %r<4000000000>; }", 4, "expected the number of registers"),
        (HEAD + ".shared .b8 x[99999999999999];", 4, "out of range"),
        (words("add.u32 %r1.h10, %r2, %r3;"), 5, "a selector is for video instructions"),
        (words("vadd2.u32.u32.u32 %r0, %r1.h4, %r2, %r3;"), 5, "no such selector"),
        (words("vadd2.u32.u32.u32 %r0, %r1.h04, %r2, %r3;"), 5, "no such selector"),
        (words("vadd4.u32.u32.u32 %r0.b01, %r1, %r2, %r3;"), 5, "no such selector"),
        (words("vadd4.u32.u32.u32 %r0.h10, %r1, %r2, %r3;"), 5, "no such selector"),
        (words("vadd4.u32.u32.u32.sat.add %r0, %r1, %r2, %r3;"), 5, "no such form"),
        (words("vadd4.u32.u32.u16 %r0, %r1, %r2, %r3;"), 5, "the types are .u32 or .s32"),
        (words("vmin2.u32.u32 %r0, %r1, %r2, %r3;"), 5, "expected three types"),
        (words("vset2.u32.u32 %r0, %r1, %r2, %r3;"), 5, "expected a comparison"),
        (words("vabsdiff4.u32.u32.u32 %r0, %r1, %r2;"), 5, "operand 4 is missing"),
    ],
)
def test_what_is_no_ptx(text: str, line: int, message: str) -> None:
    with pytest.raises(EngineError) as failure:
        Program(text)
    assert failure.value.fault == "compile"
    assert f"ptx:{line}: " in str(failure.value)
    assert message in str(failure.value)


def test_every_prefix_of_a_text_is_refused_or_compiled() -> None:
    text = kernel("add.u32 %r0, %t, 1;", before=".const .u32 c[2] = {1, 2};\n.func f() { ret; }\n")
    compiled = 0
    for end in range(len(text)):
        try:
            Program(text[:end]).close()
            compiled += 1
        except EngineError as failure:
            assert failure.fault == "compile"  # noqa: PT017
    assert compiled < len(text) / 4


def test_parameters_are_laid_out_by_alignment() -> None:
    parameters = ".param .u64 out, .param .u8 a, .param .align 8 .b8 s[12], .param .u16 b, .param .f64 c"
    body = """
    ld.param.u8 %r1, [a];
    ld.param.u32 %r2, [s+8];
    ld.param.u16 %r3, [b];
    .reg .f64 %x;
    ld.param.f64 %x, [c];
    cvt.rzi.u32.f64 %r4, %x;
    add.u32 %r0, %r1, %r2;
    add.u32 %r0, %r0, %r3;
    add.u32 %r0, %r0, %r4;
"""
    out = np.zeros(32, np.uint32)
    packed = np.frombuffer(struct.pack("<B7x8xIHxxd", 3, 500, 7000, 90000.5), np.uint8)
    with Program(kernel(body, parameters)) as program:
        # After the pointer (8): a at 8, s at 16, b at 28, c at 32.
        program.launch("test", out, *packed)
    assert set(out.tolist()) == {97503}
