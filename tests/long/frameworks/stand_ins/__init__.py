"""What stands in for parts of a machine with a GPU: the assembler, NVIDIA's device files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In a mount namespace of its own: /dev with the few devices that a program needs, and a file /dev/nvidiactl.
WITH_DEVICE_FILE = """
set -e
new=$(mktemp -d)
mount -t tmpfs dev "$new"
for device in null zero full random urandom tty ptmx; do
    : > "$new/$device"
    mount --bind "/dev/$device" "$new/$device"
done
mkdir "$new/shm" "$new/pts"
mount --rbind /dev/shm "$new/shm"
mount --rbind /dev/pts "$new/pts"
ln -s /proc/self/fd "$new/fd"
: > "$new/nvidiactl"
mount --move "$new" /dev
rmdir "$new"
exec "$@"
"""


def with_device_file(program: Sequence[str]) -> list[str]:
    """The command line of a program that sees /dev/nvidiactl, which JAX looks for before it asks. Needs root."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", WITH_DEVICE_FILE, "sh", *program]


def put_assembler(folder: Path) -> None:
    """Replaces the `ptxas` of NVIDIA's wheels below this folder by one that hands PTX on."""
    found = list(folder.rglob("bin/ptxas"))
    if not found:
        raise FileNotFoundError(f"no ptxas below {folder}")
    for place in found:
        shutil.copy(HERE / "ptxas", place)
