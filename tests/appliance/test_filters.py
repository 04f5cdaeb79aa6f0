"""The language of filters: what it accepts, what it answers, what it says about mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.filters import KEYS, FilterError, parse_filter, parse_filters
from appliance.pool import Gpu, Server

SERVER = Server(
    "server-1", "gpu01", "10.0.0.7:4751", "gpu01.lab", has_rdma=True, cuda_version="12.10", driver_version="570.86.15"
)
GPU = Gpu("GPU-7f1c", SERVER, 0, "NVIDIA A100-PCIE-40GB", 40960, 40960)


@pytest.mark.parametrize(
    "text",
    [
        "server.addr=10.0.0.7",
        "server.hostname~=GPU01",
        "server.hostname != other",
        "server.has-rdma=true",
        "server.has_rdma = yes",
        "server.cuda-version>12.9",
        "server.cuda-version=12.10.0",
        "server.driver-version >= 570.86",
        "device.id=gpu-7F1C",
        "device.name~=a100",
        "device.phy-memory=40GiB",
        "device.phy-memory>=40960",
        "device.phy-memory<0.05T",
    ],
)
def test_true_of_this_gpu(text: str) -> None:
    assert parse_filter(text).matches(SERVER, GPU)


@pytest.mark.parametrize(
    "text",
    [
        "server.addr=10.0.0.70",
        "server.has-rdma!=1",
        "server.cuda-version<12.9",
        "server.driver-version>570.86.15",
        "device.name=A100",
        "device.phy-memory>40GiB",
    ],
)
def test_false_of_this_gpu(text: str) -> None:
    assert not parse_filter(text).matches(SERVER, GPU)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("device.colour=green", "there is no filter key 'device.colour'"),
        ("device.name", "write KEY OPERATOR VALUE"),
        ("device.name=", "nothing to compare"),
        ("device.phy-memory~=40", "is not text"),
        ("server.has-rdma>true", "has no order"),
        ("server.has-rdma=maybe", "true or false"),
        ("server.cuda-version>=twelve", "a version such as 12.4"),
        ("device.phy-memory>=-1", "MiB, such as 40960"),
        ("", "is not a filter"),
    ],
)
def test_mistakes_are_explained(text: str, said: str) -> None:
    with pytest.raises(FilterError, match=said.replace(".", r"\.")):
        parse_filter(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed = parse_filter(text)
    except FilterError:
        return
    assert parsed.key in KEYS
    assert parse_filter(str(parsed)) == parsed


def test_a_request_has_at_most_32() -> None:
    assert len(parse_filters(["device.name~=a"] * 32)) == 32
    with pytest.raises(FilterError, match="32 are allowed"):
        parse_filters(["device.name~=a"] * 33)
