"""PyTorch with several processes and several GPUs: `torch_processes.py CASE [small]`, see CASES."""

from __future__ import annotations

import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import nn
from torch_program import run, size, summary


def double_it(shared: torch.Tensor, done: object, answers: object) -> None:
    """In another process: sees the parent's tensor, changes it, and says what it held."""
    answers.put(float(shared.sum()))
    shared.mul_(2)
    torch.cuda.synchronize()
    done.set()


def shared_tensor() -> object:
    """A tensor on the GPU handed to a spawned process, which changes it in place."""
    context = processes.get_context("spawn")
    shared = torch.arange(size(1000, 1 << 20), device="cuda", dtype=torch.float32)
    done, answers = context.Event(), context.SimpleQueue()
    other = context.Process(target=double_it, args=(shared, done, answers))
    other.start()
    told = answers.get()
    assert done.wait(300), "the other process did not change the tensor"
    other.join()
    return {"told": told, "changed": summary(shared), "status": other.exitcode}


def peer_copies() -> object:
    """Copies between two GPUs, each with kernels of its own."""
    n = size(64, 4096)
    here = torch.randn(n, n, generator=torch.Generator().manual_seed(1)).cuda(0)
    there = here.to("cuda:1", non_blocking=True)
    back = (there * 2).to("cuda:0")
    return {
        "peer": torch.cuda.can_device_access_peer(0, 1),
        "back": summary(back),
        "product": summary((there @ there).to("cuda:0") - here @ here),
    }


def two_devices() -> object:
    """A network on two GPUs (DataParallel)."""
    n = size(64, 4096)
    here = torch.randn(n, n, generator=torch.Generator().manual_seed(1)).cuda(0)
    network = nn.Sequential(nn.Linear(n, 32), nn.ReLU(), nn.Linear(32, 4)).cuda(0)
    parallel = nn.DataParallel(network, device_ids=[0, 1])
    result = parallel(here)
    result.square().mean().backward()
    return {
        "result": summary(result),
        "gradient": summary(network[0].weight.grad),
    }


def take_part(rank: int, count: int, file: str, answers: object) -> None:
    """One rank: collectives of NCCL over its own GPU."""
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{file}", rank=rank, world_size=count)
    x = torch.arange(size(1000, 1 << 20), device="cuda", dtype=torch.float32) * (rank + 1)
    dist.all_reduce(x)
    everyone = [torch.empty(4, device="cuda") for _ in range(count)]
    dist.all_gather(everyone, x[:4] + rank)
    dist.broadcast(x, 0)
    torch.cuda.synchronize()
    answers.put((rank, summary(x), [part.tolist() for part in everyone]))
    dist.destroy_process_group()


def collectives(count: int) -> object:
    context = processes.get_context("spawn")
    answers = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=take_part, args=(rank, count, os.path.join(folder, "meeting"), answers))
            for rank in range(count)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        status = [process.exitcode for process in ranks]
        assert status == [0] * count, f"ranks ended with {status}"
        return sorted(answers.get() for _ in range(count))


CASES = {
    "shared-tensor": shared_tensor,
    "peer-copies": peer_copies,
    "two-devices": two_devices,
    "nccl-one": lambda: collectives(1),
    "nccl-two": lambda: collectives(2),
}

if __name__ == "__main__":
    run(CASES)
