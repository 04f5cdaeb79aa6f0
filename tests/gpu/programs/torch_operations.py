"""PyTorch's operations by family: `torch_operations.py FAMILY [small]`, see CASES. Results are compared by digest."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch_program import run, size, summary

N = size(64, 2048)


def numbers(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random numbers made on the processor, so that they are the same everywhere."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to("cuda", dtype)


def elementwise() -> object:
    """float16 and bfloat16, rounding, comparisons, reductions."""
    results = []
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x, y = numbers(N, N, dtype=dtype), numbers(N, N, seed=2, dtype=dtype)
        results += [torch.tanh(x * 2 + y), torch.exp(-x.abs()).sum(0), (x > y).sum(1), x.clamp(-1, 1).round()]
        results += [torch.logsumexp(x, 1), functional.gelu(x), torch.where(x > 0, x, y), x.var(1), x.cumsum(1)]
    integers = torch.arange(N * N, device="cuda").reshape(N, N)
    results += [integers // 7 % 5, integers.bitwise_xor(3), integers.float().norm().reshape(1)]
    return [summary(result) for result in results]


def autocast() -> object:
    """Mixed precision with gradient scaling."""
    network = nn.Sequential(nn.Linear(N, N), nn.GELU(), nn.LayerNorm(N), nn.Linear(N, 8)).cuda()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cuda")
    losses = []
    for step in range(3):
        optimiser.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = network(numbers(16, N, seed=step)).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        losses.append(loss.item())
    return {"losses": losses, "scale": scaler.get_scale()}


def indexing() -> object:
    """Sorting, selecting, scattering, embeddings."""
    x = numbers(N, N)
    index = torch.randint(N, (N, N), generator=torch.Generator().manual_seed(3)).cuda()
    ordered, order = x.sort(1)
    largest, where = x.topk(5, 1)
    table = nn.Embedding(N, 16).cuda()
    looked_up = table(index[0])
    looked_up.square().sum().backward()
    results = [ordered, order, largest, where, x.gather(1, index), torch.zeros_like(x).scatter_(1, index, x)]
    results += [x[index[0]], x[x > 0.5], (x > 1).nonzero(), x.masked_fill(x < 0, 0), looked_up, table.weight.grad]
    results += [torch.unique(index[0]), torch.bincount(index[0]), x.flip(0).roll(3, 1), torch.cat([x, x], 1).t()]
    results += [torch.zeros(N, device="cuda").index_add_(0, index[0], x[0]), x.argmax(1), x.median(1).values]
    return [summary(result) for result in results]


def attention() -> object:
    """Scaled dot products (the mathematical way) and a transformer's layer, with gradients."""
    queries = numbers(2, 4, size(16, 256), 32).requires_grad_()
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        attended = functional.scaled_dot_product_attention(queries, queries, queries, is_causal=True)
    attended.square().sum().backward()
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0).cuda()
    encoded = layer(numbers(2, size(8, 128), 32))
    encoded.sum().backward()
    return [summary(attended), summary(queries.grad), summary(encoded), summary(layer.linear1.weight.grad)]


def linear_algebra() -> object:
    """cuBLAS and cuSOLVER."""
    n = size(24, 512)
    a = numbers(n, n)
    positive = a @ a.t() + n * torch.eye(n, device="cuda")
    results = [positive, torch.linalg.cholesky(positive), torch.linalg.inv(positive), torch.linalg.qr(a).R]
    results += [torch.linalg.solve(positive, a[:, :3]), torch.linalg.eigvalsh(positive), torch.linalg.svdvals(a)]
    results += [torch.bmm(numbers(4, n, n), numbers(4, n, n, seed=2))]
    results += [torch.linalg.lu_factor(positive).LU, torch.linalg.lstsq(a, a[:, :2]).solution]
    return [summary(result) for result in results]


def compiled_at_run_time() -> object:
    """Kernels that PyTorch has NVRTC compile when they are first used."""
    x = numbers(N).abs() + 1
    results = [
        x.prod(),
        torch.linalg.det(numbers(8, 8)),
        torch.lgamma(x),
        torch.special.zeta(x + 1, x),
        torch.gcd(torch.arange(N, device="cuda"), torch.tensor(12, device="cuda")),
    ]
    return [summary(result) for result in results]


def transforms() -> object:
    """cuFFT."""
    n = size(256, 65536)
    x = numbers(4, n)
    results = [torch.fft.fft(x), torch.fft.rfft(x), torch.fft.irfft(torch.fft.rfft(x)), torch.fft.fft2(numbers(32, 48))]
    results.append(torch.stft(x, 64, window=torch.hann_window(64, device="cuda"), return_complex=True))
    return [summary(result) for result in results]


def sparse() -> object:
    """cuSPARSE."""
    dense = numbers(N, N)
    dense[dense.abs() < 1.5] = 0
    ordered, coordinates = dense.to_sparse_csr(), dense.to_sparse()
    b = numbers(N, 8, seed=2)
    results = [ordered @ b, coordinates @ b, ordered @ b[:, 0], (coordinates + coordinates).to_dense()]
    return [summary(result) for result in [*results, ordered.values(), coordinates.indices()]]


def random_numbers() -> object:
    """PyTorch's generators on the GPU, their state saved and restored."""
    torch.cuda.manual_seed(7)
    state = torch.cuda.get_rng_state()
    first = torch.rand(N, N, device="cuda")
    torch.cuda.set_rng_state(state)
    again = torch.rand(N, N, device="cuda")
    results = [first, torch.randn(N, device="cuda"), torch.randint(100, (N,), device="cuda")]
    results += [torch.randperm(N, device="cuda"), torch.bernoulli(first), torch.multinomial(first, 3)]
    results += [functional.dropout(first), torch.empty(N, device="cuda").exponential_()]
    return [bool((first == again).all()), *(summary(result) for result in results)]


def recurrent() -> object:
    """An LSTM, pooling, transposed and grouped convolutions, interpolation; forward and backward."""
    lstm = nn.LSTM(8, 16, num_layers=2, batch_first=True).cuda()
    sequence, _ = lstm(numbers(2, size(5, 64), 8))
    sequence.sum().backward()
    picture = numbers(2, 4, 12, 12).requires_grad_()
    convolved = nn.Conv2d(4, 8, 3, groups=2, stride=2).cuda()(picture)
    widened = nn.ConvTranspose2d(8, 4, 3).cuda()(convolved)
    pooled = functional.max_pool2d(functional.interpolate(widened, scale_factor=2, mode="nearest"), 2)
    pooled.square().mean().backward()
    results = [sequence, lstm.weight_hh_l0.grad, convolved, pooled, picture.grad]
    return [summary(result) for result in results]


CASES = {
    "elementwise": elementwise,
    "autocast": autocast,
    "indexing": indexing,
    "attention": attention,
    "linalg": linear_algebra,
    "nvrtc": compiled_at_run_time,
    "fft": transforms,
    "sparse": sparse,
    "random": random_numbers,
    "recurrent": recurrent,
}

if __name__ == "__main__":
    run(CASES)
