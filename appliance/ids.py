"""Identifiers: `lease-01jd3x...`, unique without asking the database, and sorted by the time they were made.

48 bits of milliseconds and 80 random bits, in Crockford's base 32 (the layout of ULID). Lists of the API are paged by
them, so a page stays where it is while rows are added.
"""

from __future__ import annotations

import os
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(kind: str) -> str:
    """A fresh identifier of `kind`, e.g. `new_id("lease")`."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return f"{kind}-" + "".join(ALPHABET[number >> shift & 31] for shift in range(125, -5, -5))
