"""PyTorch's memory, streams and graphs: `torch_memory.py CASE [small]`, see CASES."""

from __future__ import annotations

import torch
from torch import nn
from torch_program import run, size, summary

MIB = 1 << 20


def allocator() -> object:
    """Tensors of many sizes come and go; what the allocator says of itself. Its kind comes from the environment."""
    dice = torch.Generator().manual_seed(4)
    kept: list[torch.Tensor] = []
    sums = []
    for turn in range(60):
        count = int(torch.randint(1, size(2, 64) * MIB, (1,), generator=dice))
        kept.append(torch.full((count,), turn, dtype=torch.uint8, device="cuda"))
        if turn % 3 == 2:
            sums.append(int(kept.pop(turn % len(kept)).sum(dtype=torch.int64)))
    allocated = torch.cuda.memory_allocated()
    live = sum(len(tensor) for tensor in kept)
    sums += [int(tensor.sum(dtype=torch.int64)) for tensor in kept]
    peak = torch.cuda.max_memory_allocated()
    kept.clear()
    torch.cuda.empty_cache()
    after = torch.cuda.memory_reserved()
    return {"sums": sums, "enough": allocated >= live, "peak": peak >= allocated, "after": after}


def out_of_memory() -> object:
    """A tensor larger than the device is refused with PyTorch's own error, and the program goes on."""
    free, total = torch.cuda.mem_get_info()
    kept = torch.ones(MIB, device="cuda")
    refused = []
    for count in (total, total + MIB):
        try:
            torch.empty(count, dtype=torch.uint8, device="cuda")
        except torch.cuda.OutOfMemoryError as error:
            refused.append("out of memory" in str(error))
    pieces: list[torch.Tensor] = []
    try:
        while True:
            pieces.append(torch.empty(size(64, 512) * MIB, dtype=torch.uint8, device="cuda"))
    except torch.cuda.OutOfMemoryError:
        count = len(pieces)
    pieces.clear()
    torch.cuda.empty_cache()
    statistics = torch.cuda.memory_stats()
    went_on = float((kept + 1).sum())
    whole = torch.empty(int(free * 0.9), dtype=torch.uint8, device="cuda").fill_(1)
    return {
        "refused": refused,
        "filled": count >= total * 9 // 10 // (size(64, 512) * MIB),
        "ooms": statistics["num_ooms"],
        "went_on": went_on,
        "whole": int(whole[-1]),
        "total_mib": total // MIB,
    }


def pinned() -> object:
    """Pinned memory both ways without blocking, on streams of their own."""
    count = size(1, 64) * MIB
    source = torch.arange(count, dtype=torch.int32).pin_memory()
    there, back = (
        torch.empty(count, dtype=torch.int32, device="cuda"),
        torch.empty(count, dtype=torch.int32).pin_memory(),
    )
    upload, download = torch.cuda.Stream(), torch.cuda.Stream()
    upload.wait_stream(torch.cuda.current_stream())  # deterministic PyTorch fills what is new
    with torch.cuda.stream(upload):
        there.copy_(source, non_blocking=True)
        there.mul_(3)
        ready = upload.record_event()
    download.wait_event(ready)
    with torch.cuda.stream(download):
        back.copy_(there, non_blocking=True)
    there.record_stream(download)
    download.synchronize()
    return [source.is_pinned(), bool((back == source * 3).all()), summary(back)]


def streams() -> object:
    """Work on several streams, ordered by events; times between events."""
    streams = [torch.cuda.Stream(priority=-(turn % 2)) for turn in range(4)]
    x = torch.zeros(size(1 << 10, 1 << 22), device="cuda")
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for turn in range(20):
        stream = streams[turn % len(streams)]
        stream.wait_stream(torch.cuda.current_stream() if turn == 0 else streams[(turn - 1) % len(streams)])
        with torch.cuda.stream(stream):
            x.mul_(1.5).add_(turn)
    torch.cuda.current_stream().wait_stream(streams[19 % len(streams)])
    end.record()
    end.synchronize()
    for stream in streams:  # an event may be over a moment before its stream is
        stream.synchronize()
    return [begin.elapsed_time(end) >= 0, end.query(), all(stream.query() for stream in streams), summary(x)]


def make_network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)).cuda()


def graphs() -> object:
    """A whole training step captured as a graph and replayed with new data."""
    width = size(16, 1024)
    network = make_network(width)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    x, wanted = torch.randn(8, width, device="cuda"), torch.randn(8, width, device="cuda")

    def step() -> torch.Tensor:
        optimiser.zero_grad(set_to_none=True)
        loss = (network(x) - wanted).square().mean()
        loss.backward()
        optimiser.step()
        return loss

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    losses = []
    for turn in range(size(5, 100)):
        x.copy_(torch.randn(8, width, generator=torch.Generator().manual_seed(turn)))
        graph.replay()
        losses.append(loss.item())
    return {"losses": losses, "weights": summary(network[0].weight)}


def graphed_callables() -> object:
    """torch.cuda.make_graphed_callables: forward and backward of a module as graphs, within an ordinary step."""
    width = size(16, 1024)
    network = make_network(width)
    graphed = torch.cuda.make_graphed_callables(network, (torch.randn(8, width, device="cuda"),))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    for turn in range(3):
        optimiser.zero_grad()
        loss = graphed(torch.randn(8, width, generator=torch.Generator().manual_seed(turn)).cuda()).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def description() -> object:
    """What the device says of itself, and what is left of it."""
    properties = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    held = torch.empty(100 * MIB, dtype=torch.uint8, device="cuda")
    less = torch.cuda.mem_get_info()[0]
    return {
        "name": properties.name,
        "capability": torch.cuda.get_device_capability(),
        "total": [properties.total_memory // MIB, total // MIB],
        "taken_mib": (free - less) // MIB,
        "held": len(held),
        "processors": properties.multi_processor_count,
        "count": torch.cuda.device_count(),
    }


CASES = {
    "allocator": allocator,
    "out-of-memory": out_of_memory,
    "pinned": pinned,
    "streams": streams,
    "graphs": graphs,
    "graphed-callables": graphed_callables,
    "description": description,
}

if __name__ == "__main__":
    run(CASES)
