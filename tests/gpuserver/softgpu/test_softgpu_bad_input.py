"""What a program hands over that is wrong: the CUDA error of a real driver, and a line on stderr that says where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from images import SOURCE, nvcc
from software_gpu import run

HEAD = ".version 8.0\n.target sm_80\n.address_size 64\n"
INVALID_VALUE, INVALID_IMAGE, NO_BINARY, INVALID_PTX, NOT_FOUND, ILLEGAL_INSTRUCTION = 1, 200, 209, 218, 500, 715
# Loads the file, launches its kernel `k` with one pointer as the command line says, and prints each CUresult.
PROGRAM = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, module, function, memory = (ctypes.c_void_p() for _ in range(4))
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
for file in sys.argv[2:]:
    print(cuda.cuModuleLoad(ctypes.byref(module), file.encode()))
if sys.argv[1]:
    print(cuda.cuModuleGetFunction(ctypes.byref(function), module, b"k"))
    assert cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(4096)) == 0
    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(memory))
    shape = [*map(int, sys.argv[1].split(","))]
    print(cuda.cuLaunchKernel(function, *shape, None, parameters, None))
    print(cuda.cuCtxSynchronize())
"""


def load(*files: Path, launch: str = "") -> tuple[list[int], str]:
    """The results of the calls, and what came on stderr. `launch`: grid, block and dynamic shared memory."""
    done = run([sys.executable, "-c", PROGRAM, launch, *map(str, files)])
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return [*map(int, done.stdout.split())], done.stderr


def entry(body: str, declarations: str = "") -> str:
    registers = ".reg .pred %p<4>; .reg .b32 %r<16>; .reg .b64 %d<8>; .reg .f32 %f<16>;"
    return f"{HEAD}{declarations}.visible .entry k(.param .u64 out)\n{{ {registers}\n{body}\nret; }}\n"


@pytest.mark.parametrize(
    ("text", "result", "where"),
    [
        (entry("    this is nonsense;"), INVALID_PTX, "application ptx input, line 6"),
        (entry("    mov.u32 %r1, 1;\n    frobnicate.u32 %r1;"), INVALID_PTX, "line 7; error   : "),
        (entry("    add.u32 %r1, %r99, 1;"), INVALID_PTX, "line 6"),
        (entry("    bra NOWHERE;"), INVALID_PTX, "line 6"),
        (entry("    mov.u32 %r1, 1;")[:-12], INVALID_PTX, "application ptx input, line"),
        (HEAD + ".visible .entry k(.param .u64 out)\n{\n", INVALID_PTX, "application ptx input, line"),
        ("this is no PTX", INVALID_IMAGE, "code image: the image is neither a fatbin nor PTX"),
    ],
)
def test_wrong_ptx_is_shown_by_its_line(tmp_path: Path, text: str, result: int, where: str) -> None:
    (tmp_path / "wrong.ptx").write_text(text)
    results, errors = load(tmp_path / "wrong.ptx")
    assert results == [result]
    assert where in errors


def test_an_unknown_instruction_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.ptx").write_text(entry("    frobnicate.u32 %r1;"))
    assert "frobnicate" in load(tmp_path / "wrong.ptx")[1]


@pytest.mark.parametrize("mode", ["none", "speed", "size"])
def test_a_truncated_fatbin_is_an_invalid_image(tmp_path: Path, mode: str) -> None:
    """Cut at every place of its headers, and at places between."""
    ptx = ("-gencode", "arch=compute_75,code=compute_75")
    whole = nvcc(SOURCE, tmp_path / "whole", "-fatbin", f"--compress-mode={mode}", *ptx).read_bytes()
    cuts = [*range(1, 100), *range(100, len(whole) - 8, max(1, len(whole) // 50))]
    files = [tmp_path / f"cut-{size}" for size in cuts]
    for size, file in zip(cuts, files, strict=True):
        file.write_bytes(whole[:size])
    results, errors = load(*files)
    assert results == [INVALID_IMAGE] * len(files)
    assert len(errors.splitlines()) == len(files)
    assert all("code image: " in line for line in errors.splitlines())
    assert "fatbin: truncated: " in errors


def test_machine_code_alone_is_no_binary_for_this_device(tmp_path: Path) -> None:
    cubin = nvcc(SOURCE, tmp_path / "cubin", "-cubin", "-arch=sm_80")
    results, errors = load(cubin)
    assert results == [NO_BINARY]
    assert "the image is machine code (a cubin): the software GPU executes PTX only" in errors


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ("2147483648,1,1,1,1,1,0", "the grid is larger than the device allows"),
        ("1,65536,1,1,1,1,0", "the grid is larger than the device allows"),
        ("4294967295,4294967295,4294967295,1024,1,1,0", "the grid is larger than the device allows"),
        ("1,1,1,4294967295,4294967295,4294967295,0", "the block is larger than the device allows"),
        ("1,1,1,64,64,1,0", "the block is larger than the device allows"),
        ("1,1,1,32,1,1,4294967295", "4294967295 bytes of dynamic shared memory are more than the kernel may have"),
        ("0,1,1,32,1,1,0", "a dimension is zero"),
    ],
)
def test_a_launch_that_is_too_large_is_refused_at_the_call(tmp_path: Path, shape: str, why: str) -> None:
    (tmp_path / "k.ptx").write_text(entry(""))
    results, errors = load(tmp_path / "k.ptx", launch=shape)
    assert results == [0, 0, INVALID_VALUE, 0]
    assert f"launch of k: {why}" in errors


@pytest.mark.parametrize(
    ("instruction", "name", "declarations"),
    [
        (
            "mma.sp.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, "
            "{%r1,%r2,%r5,%r6}, {%f1,%f2,%f3,%f4}, %r1, 0;",
            "mma",
            "",
        ),
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], "
            "[%d1, {%r2, %r3}], [%r4];",
            "cp",
            "",
        ),
        ("tensormap.replace.tile.global_address.global.b1024.b64 [%d1], %d2;", "tensormap", ""),
        ("tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [texture, {%f5,%f6}];", "tex", ".global .texref texture;\n"),
    ],
)
def test_an_instruction_of_another_unit_ends_with_its_name(
    tmp_path: Path, instruction: str, name: str, declarations: str
) -> None:
    """Sparse products, TMA, textures: the module loads, the kernel ends there, kernel and line are named."""
    text = entry(f"    {instruction}", declarations)
    (tmp_path / "k.ptx").write_text(text)
    results, errors = load(tmp_path / "k.ptx", launch="1,1,1,32,1,1,0")
    assert results == [0, 0, 0, ILLEGAL_INSTRUCTION]
    line = 1 + text[: text.index(instruction)].count("\n")
    assert f"'{name}'" in errors
    assert "kernel k" in errors
    assert f"application ptx input:{line}" in errors


def test_tensor_cores_in_a_compiled_program(tmp_path: Path) -> None:
    """What `nvcuda::wmma` compiles to: the program is told, by the error and by name."""
    source = """
#include <cstdio>
#include <mma.h>
using namespace nvcuda::wmma;
__global__ void product(const half *a, const half *b, float *c) {
    fragment<matrix_a, 16, 16, 16, half, row_major> left;
    fragment<matrix_b, 16, 16, 16, half, col_major> right;
    fragment<accumulator, 16, 16, 16, float> sum;
    fill_fragment(sum, 0.f);
    load_matrix_sync(left, a, 16);
    load_matrix_sync(right, b, 16);
    mma_sync(sum, left, right, sum);
    store_matrix_sync(c, sum, 16, mem_row_major);
}
int main() {
    half *a;
    float *c;
    cudaMalloc(&a, 512);
    cudaMalloc(&c, 1024);
    product<<<1, 32>>>(a, a, c);
    printf("%s\\n", cudaGetErrorName(cudaDeviceSynchronize()));
}
"""
    program = nvcc(source, tmp_path / "wmma", "-arch=compute_75")
    done: subprocess.CompletedProcess[str] = run([str(program)])
    assert done.stdout == "cudaErrorIllegalInstruction\n"
    assert "'wmma'" in done.stderr
    assert "product" in done.stderr
