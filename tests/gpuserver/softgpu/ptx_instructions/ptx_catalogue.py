"""Every declared instruction form, by family."""

from __future__ import annotations

import ptx_family_bits
import ptx_family_compare
import ptx_family_convert
import ptx_family_float
import ptx_family_integer
import ptx_family_special
import ptx_family_video
from ptx_declare import Instruction

FAMILIES: dict[str, list[Instruction]] = {
    "float": ptx_family_float.INSTRUCTIONS,
    "compare": ptx_family_compare.INSTRUCTIONS,
    "integer": ptx_family_integer.INSTRUCTIONS,
    "bits": ptx_family_bits.INSTRUCTIONS,
    "convert": ptx_family_convert.INSTRUCTIONS,
    "special": ptx_family_special.INSTRUCTIONS,
    "video": ptx_family_video.INSTRUCTIONS,
}
