"""
Counts a kernel's machine instructions by what they keep busy.
"""

from __future__ import annotations

import re
from collections import Counter

_WARPGROUP = ("HGMMA", "IGMMA", "QGMMA", "BGMMA")
_BLACKWELL = ("UTCHMMA", "UTCIMMA", "UTCQMMA", "UTCOMMA", "UTCBMMA", "UTCMXQMMA")
_ONE_WARP = ("HMMA", "IMMA", "DMMA", "BMMA", "QMMA", "OMMA")

#: Class to the opcodes in it; a warpgroup product is a tensor-core instruction too.
CLASSES: dict[str, tuple[str, ...]] = {
    "tensor_core": (*_ONE_WARP, *_WARPGROUP, *_BLACKWELL),
    "warpgroup": (*_WARPGROUP, *_BLACKWELL),
    "special_function": ("MUFU",),
    "local_memory": ("LDL", "STL"),
    "global_memory": (
        *("LD", "ST", "LDG", "STG", "LDGSTS", "ATOM", "ATOMG", "RED", "REDG"),
        *("UTMALDG", "UTMASTG", "UTMAREDG", "UBLKCP", "UBLKRED"),
    ),
    "shared_memory": ("LDS", "STS", "LDSM", "STSM", "ATOMS", "REDS", "LDTM", "STTM", "UTCCP"),
    "barrier": ("BAR", "SYNCS", "WARPSYNC", "WARPGROUP", "UCGABAR_WAIT", "UCGABAR_ARV"),
}
#: All of them.
TOTAL = "total"

# "        /*0190*/              @!P0 HGMMA.64x128x16.F32 R24, gdesc[UR8], !UPT ;"
_LINE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P[T\d]+\s+)?([A-Z][A-Z0-9_]*)")
_IDLE = frozenset({"NOP"})


def count_instructions(listing: str) -> dict[str, int]:
    """
    Count the instructions of each class in what nvdisasm prints.

    Returns:
        Class to number, for all classes, and under `TOTAL` all instructions but padding.
    """
    lines = (_LINE.match(line) for line in listing.splitlines())
    opcodes = Counter(found.group(1) for found in lines if found)
    counts = {name: sum(opcodes[one] for one in members) for name, members in CLASSES.items()}
    counts[TOTAL] = sum(number for opcode, number in opcodes.items() if opcode not in _IDLE)
    return counts
