"""The MMIO window: Broadcom KB 323402's rule as a table, and its properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcenter import mmio

GIB = 1024


@pytest.mark.parametrize(
    ("framebuffers", "window"),
    [
        ([1 * GIB], 2),
        ([8 * GIB], 16),  # P4
        ([16 * GIB], 32),  # T4: a power of two goes to the next one
        ([24 * GIB], 64),  # A10: up to 32, and once more
        ([40 * GIB], 128),
        ([48 * GIB], 128),
        ([64 * GIB], 128),
        ([80 * GIB], 256),  # the KB's own example: one H100 80GB
        ([2 * 16 * GIB], 64),
        ([16 * GIB] * 3, 128),
        ([80 * GIB] * 2, 512),
        ([80 * GIB] * 8, 2048),
        ([94 * GIB] * 2, 512),
        ([141 * GIB], 512),
        ([192 * GIB] * 8, 4096),
    ],
)
def test_rule(framebuffers: list[int], window: int) -> None:
    assert mmio.window_gb(framebuffers) == window


sizes = st.lists(st.integers(min_value=1, max_value=400 * GIB), min_size=1, max_size=16)


@given(sizes)
def test_window_is_a_power_of_two_at_least_twice_and_less_than_four_times_the_memory(framebuffers: list[int]) -> None:
    window = mmio.window_gb(framebuffers)
    total = -(-sum(framebuffers) // GIB)
    assert window & (window - 1) == 0
    assert 2 * total <= window < 4 * total or total == window // 2


@given(sizes, st.integers(min_value=1, max_value=400 * GIB))
def test_one_more_gpu_never_shrinks_the_window(framebuffers: list[int], another: int) -> None:
    assert mmio.window_gb([*framebuffers, another]) >= mmio.window_gb(framebuffers)


@given(sizes)
def test_the_order_of_gpus_does_not_matter(framebuffers: list[int]) -> None:
    assert mmio.window_gb(framebuffers) == mmio.window_gb(sorted(framebuffers))


def test_options_are_what_the_vmx_wants() -> None:
    assert mmio.options([80 * GIB]) == {"pciPassthru.use64bitMMIO": "TRUE", "pciPassthru.64bitMMIOSizeGB": "256"}
    assert mmio.options([80 * GIB], override_gb=512)["pciPassthru.64bitMMIOSizeGB"] == "512"


@pytest.mark.parametrize("override", [0, -128, 100, 3])
def test_an_override_that_is_no_power_of_two_is_refused(override: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        mmio.options([80 * GIB], override_gb=override)


@pytest.mark.parametrize("framebuffers", [[], [0], [16 * GIB, -1]])
def test_no_gpu_or_no_memory_is_refused(framebuffers: list[int]) -> None:
    with pytest.raises(ValueError, match=r"GPU|positive"):
        mmio.window_gb(framebuffers)
