"""A residual network trained and then used: `torch_training.py WAY [small]`, see WAYS. Deterministic."""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch_program import SMALL, run, summary

WAYS = ("eager", "compiled", "graph", "loader")
WAY = sys.argv[1]
STEPS, BATCH, SIDE, WIDTH = (3, 4, 8, 8) if SMALL else (30, 64, 32, 32)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.inner(x))


class Images(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Pictures made from their number, in the loader's worker processes."""

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        dice = torch.Generator().manual_seed(index)
        return torch.randn(3, SIDE, SIDE, generator=dice), index % 10


def train_and_use() -> object:
    network = nn.Sequential(
        nn.Conv2d(3, WIDTH, 3, padding=1),
        *(Block(WIDTH) for _ in range(4)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTH, 10),
    ).cuda()
    step_of = torch.compile(network) if WAY == "compiled" else network
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    workers = 2 if WAY == "loader" else 0
    loader = torch.utils.data.DataLoader(Images(), batch_size=BATCH, num_workers=workers, pin_memory=workers > 0)
    losses = []
    for pictures, labels in loader:
        optimiser.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(step_of(pictures.cuda(non_blocking=True)), labels.cuda(non_blocking=True))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    network.eval()
    sample = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)).cuda()
    with torch.no_grad():
        answer = network(sample)
        if WAY == "graph":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                answer = network(sample)
            for _ in range(100):
                graph.replay()
        answer = answer.float().cpu()
    return {"losses": losses, "answer": answer.flatten().tolist(), "weights": summary(network[0].weight)}


if __name__ == "__main__":
    run(dict.fromkeys(WAYS, train_and_use))
