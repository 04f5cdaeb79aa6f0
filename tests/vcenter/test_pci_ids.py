"""PCI ids: signed shorts, hex text, classes, addresses, and the catalogue of GPUs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim

from vcenter import gpu_catalogue, pci


@given(st.integers(min_value=0, max_value=0xFFFF))
def test_signed_and_unsigned_are_inverse(value: int) -> None:
    assert pci.unsigned(pci.signed(value)) == value
    assert -0x8000 <= pci.signed(value) <= 0x7FFF
    vim.host.PciDevice(deviceId=pci.signed(value))  # pyVmomi takes it as the short that it is


@given(st.integers(min_value=-0x8000, max_value=0x7FFF))
def test_id_text_reads_back(value: int) -> None:
    text = pci.id_text(value)
    assert int(text, 16) == value & 0xFFFF
    assert text == text.lower()
    assert not text.startswith("0x")


@pytest.mark.parametrize(
    ("value", "text"), [(0x20B5, "20b5"), (0x00A0, "a0"), (0, "0"), (-1, "ffff"), (-0x7FFF, "8001")]
)
def test_id_text_keeps_what_stripping_would_eat(value: int, text: str) -> None:
    assert pci.id_text(value) == text


@pytest.mark.parametrize(
    ("vendor", "pci_class", "gpu"),
    [
        (0x10DE, 0x0302, True),
        (0x10DE, 0x0300, True),
        (0x10DE, 0x0403, False),  # audio function
        (0x10DE, 0x0680, False),  # NVSwitch
        (0x10DE, 0x0C03, False),  # USB function
        (0x1002, 0x0300, False),  # another maker's card
        (0x15B3, 0x0200, False),
    ],
)
def test_what_counts_as_a_gpu(vendor: int, pci_class: int, gpu: bool) -> None:
    assert pci.is_gpu(pci.signed(vendor), pci.signed(pci_class)) is gpu


@pytest.mark.parametrize("text", ["0000:3b:00.0", "0000:FF:1f.7", "00000:0000:3b:00.0"])
def test_addresses(text: str) -> None:
    assert pci.is_address(text)
    assert pci.slot(text) == text[:-2]


@pytest.mark.parametrize("text", ["", "3b:00.0", "0000:3b:00", "0000:3b:00.8", "gpu0", "0000:3b:00.0 "])
def test_not_addresses(text: str) -> None:
    assert not pci.is_address(text)


@pytest.mark.parametrize(
    ("device", "subsystem", "name", "gib"),
    [
        (0x102D, 0, "Tesla K80", 12),
        (0x1BB3, 0, "Tesla P4", 8),
        (0x1B38, 0, "Tesla P40", 24),
        (0x15F8, 0, "Tesla P100 PCIe 16GB", 16),
        (0x1DB6, 0, "Tesla V100 PCIe 32GB", 32),
        (0x1EB8, 0, "Tesla T4", 16),
        (0x20B5, 0x1533, "A100 PCIe 80GB", 80),
        (0x20F1, 0x145F, "A100 PCIe 40GB", 40),
        (0x2236, 0x1482, "A10", 24),
        (0x25B6, 0x157E, "A2", 16),
        (0x25B6, 0x14A9, "A16", 16),
        (0x2235, 0x145A, "A40", 48),
        (0x27B8, 0, "L4", 24),
        (0x26B9, 0, "L40S", 48),
        (0x2331, 0x1626, "H100 PCIe", 80),
        (0x2335, 0, "H200 SXM 141GB", 141),
        (0x2329, 0, "H20", 96),
        (0x2901, 0, "B200", 192),
        (0x2BB5, 0, "RTX PRO 6000 Blackwell Server Edition", 96),
        (0x1E30, 0x12BA, "Quadro RTX 6000", 24),
        (0x1E30, 0x129E, "Quadro RTX 8000", 48),
        (0x17FD, 0x1173, "Tesla M40 24GB", 24),
    ],
)
def test_catalogue(device: int, subsystem: int, name: str, gib: int) -> None:
    model = gpu_catalogue.find(pci.signed(0x10DE), pci.signed(device), pci.signed(subsystem))
    assert model is not None
    assert (model.name, model.memory_mib) == (name, gib * 1024)


def test_every_model_is_plausible_and_its_bar_holds_its_memory() -> None:
    models = gpu_catalogue.known()
    assert len(models) > 100
    for device, model in models.items():
        assert 0 < device <= 0xFFFF
        assert 2 * 1024 <= model.memory_mib <= gpu_catalogue.UNKNOWN_MEMORY_MIB, model
        assert model.memory_mib <= model.bar_mib < 2 * model.memory_mib
        assert model.bar_mib & (model.bar_mib - 1) == 0


def test_other_makers_and_unknown_devices() -> None:
    assert gpu_catalogue.find(0x1002, 0x20B5) is None
    assert gpu_catalogue.find(0x10DE, 0xFFFE) is None


def test_memory_to_reckon_with_override_then_host_then_catalogue_then_safe_rule() -> None:
    assert gpu_catalogue.memory_mib(0x10DE, 0x20B5, override_mib=123, reported_mib=5) == 123
    assert gpu_catalogue.memory_mib(0x10DE, 0x20B5, reported_mib=81920 - 512) == 81920 - 512
    assert gpu_catalogue.memory_mib(0x10DE, 0x20B5) == 80 * 1024
    largest = max(model.memory_mib for model in gpu_catalogue.known().values())
    assert gpu_catalogue.memory_mib(0x10DE, 0xFFFE) >= largest
