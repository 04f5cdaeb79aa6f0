"""What a native part needs of the machine it runs on: libraries, and the lowest glibc (System V ABI, chapter 5)."""

from __future__ import annotations

import re
import struct
from pathlib import Path

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB = 0, 1, 5
GLIBC = re.compile(rb"\0GLIBC_2\.(\d+)(?=\0)")
OF_GLIBC = ("libc.so", "libm.so", "libpthread.so", "libdl.so", "librt.so", "ld-linux", "libgcc_s.so")
"""What comes with glibc, or with every distribution's base system."""


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(5) == b"\x7fELF\x02"


def lowest_glibc(path: Path) -> int:
    """The minor number of the newest GLIBC_2.x that the file asks for; 0 for none."""
    return max((int(each) for each in GLIBC.findall(path.read_bytes())), default=0)


def needed_libraries(path: Path) -> list[str]:
    """The names of DT_NEEDED, without those of glibc. For 64-bit little-endian files."""
    content = path.read_bytes()
    offset, size, count = struct.unpack_from("<Q", content, 32)[0], *struct.unpack_from("<HH", content, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", content, offset + size * at) for at in range(count)]
    loads = [(each[3], each[2], each[5]) for each in segments if each[0] == PT_LOAD]
    tags: list[tuple[int, int]] = []
    for segment in segments:
        if segment[0] == PT_DYNAMIC:
            for at in range(segment[2], segment[2] + segment[5], 16):
                tag, value = struct.unpack_from("<qQ", content, at)
                if tag == DT_NULL:
                    break
                tags.append((tag, value))
    strings = next((value for tag, value in tags if tag == DT_STRTAB), 0)
    table = next((file + strings - memory for memory, file, length in loads if memory <= strings < memory + length), 0)
    names = []
    for tag, value in tags:
        if tag == DT_NEEDED:
            end = content.index(b"\0", table + value)
            names.append(content[table + value : end].decode())
    return [each for each in names if not each.startswith(OF_GLIBC)]
