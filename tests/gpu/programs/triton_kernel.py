"""A Triton kernel, compiled and launched."""

from __future__ import annotations

import json
import time

import torch
import triton
import triton.language as tl


@triton.jit
def add(x, y, out, count, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < count
    tl.store(out + at, tl.load(x + at, inside) + tl.load(y + at, inside), inside)


def main() -> None:
    count = 1 << 20
    x = torch.arange(count, device="cuda", dtype=torch.float32)
    out = torch.empty_like(x)
    start = time.perf_counter()
    for _ in range(100):
        add[(triton.cdiv(count, 1024),)](x, x, out, count, block=1024)
    total = out.double().sum().item()
    print(json.dumps({"output": {"sum": total}, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
