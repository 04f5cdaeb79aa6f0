"""Real frameworks on a real GPU: forwarded, they compute what they compute natively."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gpu_server import GpuServer, surroundings

Both = Callable[..., tuple[Any, Any]]
CORPUS = Path(__file__).resolve().parents[1] / "programs"


@pytest.mark.parametrize("way", ["eager", "compiled", "graph", "loader"])
def test_training_and_inference_of_a_residual_network_with_pytorch(run_both: Both, way: str) -> None:
    needs = ("torch", "triton") if way == "compiled" else ("torch",)
    native, forwarded = run_both("torch_training", way, needs=needs)
    assert forwarded["losses"] == pytest.approx(native["losses"], rel=1e-3)
    assert forwarded["answer"] == pytest.approx(native["answer"], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("allocator", ["", "expandable_segments:True", "backend:cudaMallocAsync"])
@pytest.mark.parametrize("case", ["allocator", "out-of-memory"])
def test_memory_of_pytorchs_allocators(run_both: Both, case: str, allocator: str) -> None:
    variables = {"PYTORCH_CUDA_ALLOC_CONF": allocator} if allocator else {}
    native, forwarded = run_both("torch_memory", case, needs=("torch",), **variables)
    assert forwarded == native


@pytest.mark.parametrize("case", ["pinned", "streams", "graphs", "graphed-callables"])
def test_streams_copies_and_cuda_graphs_with_pytorch(run_both: Both, case: str) -> None:
    native, forwarded = run_both("torch_memory", case, needs=("torch",))
    assert forwarded == native


@pytest.mark.parametrize(
    "family", ["elementwise", "indexing", "attention", "linalg", "nvrtc", "fft", "sparse", "random"]
)
def test_pytorchs_operations_with_cublas_cusolver_cufft_and_cusparse(run_both: Both, family: str) -> None:
    native, forwarded = run_both("torch_operations", family, needs=("torch",))
    assert forwarded == native


@pytest.mark.parametrize("family", ["autocast", "recurrent"])
def test_mixed_precision_and_cudnn_with_pytorch(run_both: Both, family: str) -> None:
    native, forwarded = run_both("torch_operations", family, needs=("torch",))
    assert forwarded == native


def test_a_tensor_that_two_processes_share(run_both: Both) -> None:
    native, forwarded = run_both("torch_processes", "shared-tensor", needs=("torch",))
    assert forwarded == native


def test_nccl_on_one_gpu(run_both: Both) -> None:
    native, forwarded = run_both("torch_processes", "nccl-one", needs=("torch",))
    assert forwarded == native


def test_the_mathematical_libraries(run_both: Both) -> None:
    native, forwarded = run_both("libraries", needs=("cupy",))
    assert all(native["right"])
    assert forwarded == native


def test_a_triton_kernel(run_both: Both) -> None:
    native, forwarded = run_both("triton_kernel", needs=("torch", "triton"))
    assert forwarded == native


def test_a_jitted_step_with_jax(run_both: Both) -> None:
    native, forwarded = run_both("jax_step", needs=("jax",))
    assert forwarded["sum"] == pytest.approx(native["sum"], rel=1e-5)


@pytest.mark.parametrize("way", ["numerics", "fourier", "training", "memory"])
def test_jax_at_work(run_both: Both, way: str) -> None:
    native, forwarded = run_both("jax_ways", way, needs=("jax",))
    assert forwarded.keys() == native.keys()
    for name, numbers in native.items():
        assert forwarded[name] == pytest.approx(numbers, rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("way", ["eager", "function"])
def test_tensorflow_at_work(run_both: Both, way: str) -> None:
    native, forwarded = run_both("tensorflow_ways", way, needs=("tensorflow",))
    assert forwarded.keys() == native.keys()
    for name, numbers in native.items():
        assert forwarded[name] == pytest.approx(numbers, rel=1e-3, abs=1e-3), name


LLAMA = ("llama-completion", "llama-perplexity", "llama-quantize", "llama-bench")


@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0"])
def test_text_with_llama_cpp(run_both: Both, kind: str, flash: str) -> None:
    native, forwarded = run_both("llama_cpp", "text", kind, flash, needs=("gguf",), tools=LLAMA)
    assert forwarded == native


@pytest.mark.parametrize("way", ["perplexity", "bench"])
def test_judging_and_measuring_with_llama_cpp(run_both: Both, way: str) -> None:
    native, forwarded = run_both("llama_cpp", way, "Q4_0", "on", needs=("gguf",), tools=LLAMA)
    assert forwarded == native


def test_the_corpus_natively_and_forwarded(hardware_server: GpuServer) -> None:
    """The programs of tests/programs, on this machine's GPU and on the same GPU through forwarding: what they assert
    holds for the real driver, and both ways print and save the same."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(CORPUS)],
        env=surroundings(GPUFERRY_WAYS="hardware-both"),
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]


def test_nvml_shows_the_slice_of_the_real_gpu(hardware_server: GpuServer) -> None:
    code = """
import pynvml
pynvml.nvmlInit()
device = pynvml.nvmlDeviceGetHandleByIndex(0)
memory = pynvml.nvmlDeviceGetMemoryInfo(device)
warm = pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU) > 0
print(memory.total >> 20, memory.used, pynvml.nvmlDeviceGetName(device) != "", warm)
"""
    done = hardware_server.run(sys.executable, "-c", code, memory_mib=2048)
    assert done.stdout == "2048 0 True True\n", done.stderr
