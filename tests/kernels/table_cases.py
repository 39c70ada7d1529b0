"""A shape for every row of the tile table that names a Hopper kernel or could name one."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One attention problem on square shapes."""

    headdim: int
    causal: bool
    batch: int
    heads: int
    seqlen: int


# In the order of the rows of configs.HEADDIM_64 and HEADDIM_128.
EVERY_ROW = (
    Case(64, False, 1, 8, 512),
    Case(64, False, 8, 8, 128),
    Case(64, False, 8, 8, 256),
    Case(64, False, 32, 8, 256),
    Case(64, False, 8, 8, 512),
    Case(64, False, 2, 8, 4096),
    Case(64, False, 4, 8, 4096),
    Case(64, True, 1, 8, 512),
    Case(64, True, 8, 8, 128),
    Case(64, True, 16, 8, 128),
    Case(64, True, 8, 8, 256),
    Case(64, True, 16, 8, 256),
    Case(64, True, 4, 8, 512),
    Case(64, True, 16, 8, 512),
    Case(64, True, 17, 8, 1024),
    Case(64, True, 1, 8, 4096),
    Case(64, True, 2, 8, 4096),
    Case(64, True, 1, 8, 16384),
    Case(64, True, 1, 9, 16384),
    Case(128, False, 1, 8, 512),
    Case(128, False, 1, 2, 1024),
    Case(128, False, 8, 8, 512),
    Case(128, True, 1, 8, 512),
    Case(128, True, 1, 2, 2048),
    Case(128, True, 8, 8, 512),
    Case(128, True, 4, 8, 1024),
)
