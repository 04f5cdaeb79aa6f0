"""Where the native parts are: the libraries that programs load, and the worker.

They are installed beside the Python packages (`gpuserver/softgpu/lib`, `clientagent/shim/lib`,
`gpuserver/worker/bin`).
In a source tree, `make native` installs the same layout under `build/stage`; `GPUFERRY_NATIVE` names another prefix.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class NativePartMissingError(FileNotFoundError):
    """A native part is not installed; the message says what to do."""


def find_native(relative: str) -> Path:
    """The installed path of `relative`, e.g. `gpuserver/softgpu/lib/libcuda.so.1`.

    Raises NativePartMissingError.
    """
    prefixes = [ROOT, ROOT / "build" / "stage"]
    if override := os.environ.get("GPUFERRY_NATIVE"):
        prefixes.insert(0, Path(override))
    for prefix in prefixes:
        if (prefix / relative).exists():
            return prefix / relative
    raise NativePartMissingError(
        f"{relative} is not installed (looked under {', '.join(map(str, prefixes))}): "
        "install the gpuferry wheel, or run `make native` in a source tree"
    )
