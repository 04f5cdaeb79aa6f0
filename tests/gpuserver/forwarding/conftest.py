"""Fixtures of the forwarding tests: a GPU server daemon on the loopback address."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_server import GpuServer, gpu_server


@pytest.fixture(scope="session")
def software_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    """A GPU server with one software GPU of 1 GiB."""
    with gpu_server(tmp_path_factory.mktemp("softgpu"), "softgpu", GPUFERRY_SOFTGPU_MEMORY_MIB="1024") as server:
        yield server


@pytest.fixture(scope="session")
def null_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuServer]:
    """A GPU server whose driver returns at once and computes nothing."""
    with gpu_server(tmp_path_factory.mktemp("null"), "null") as server:
        yield server
