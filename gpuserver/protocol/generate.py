"""Writes every file that follows from the specification: `python -m gpuserver.protocol.generate PART FOLDER`.

Parts: `protocol` (operation numbers, the table of the driver's entry points), `shim` (the client's stubs and exports),
`worker` (the handlers), `null` (the null driver's defaults), and `nvml_…` the same for NVML. CMake runs it at build
time; nothing of it is committed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from gpuserver.protocol import generate_null, generate_nvml, generate_protocol, generate_shim, generate_worker
from gpuserver.protocol.nvml_specification import read_nvml_specification
from gpuserver.protocol.specification import Specification, read_specification

PARTS: dict[str, Callable[[Specification], dict[str, str]]] = {
    "protocol": generate_protocol.files,
    "shim": generate_shim.files,
    "worker": generate_worker.files,
    "null": generate_null.files,
    "nvml_protocol": lambda _: generate_nvml.protocol_files(read_nvml_specification()),
    "nvml_shim": lambda _: generate_nvml.shim_files(read_nvml_specification()),
    "nvml_worker": lambda _: generate_nvml.worker_files(read_nvml_specification()),
}


def write_if_changed(path: Path, text: str) -> None:
    """Leaves the time stamp alone when nothing changed, so that nothing is compiled again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main(part: str, folder: str) -> None:
    output = Path(folder)
    output.mkdir(parents=True, exist_ok=True)
    for name, text in PARTS[part](read_specification()).items():
        write_if_changed(output / name, text)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
