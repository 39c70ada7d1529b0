"""
The stable reason codes of verdicts, explained to users in docs/verdicts.md.

A test compares this list with the document, so neither can grow without the other.
"""

from __future__ import annotations

from enum import Enum


class Reason(str, Enum):
    """
    Why a verdict has its status.
    """

    # The change interval said it.
    WITHIN_MARGIN = "WITHIN_MARGIN"
    FASTER_THAN_BASELINE = "FASTER_THAN_BASELINE"
    SLOWER_THAN_BASELINE = "SLOWER_THAN_BASELINE"
    # It said it, under a reservation that widened the interval or the margin.
    OTHER_CARD = "OTHER_CARD"
    PROVISIONAL = "PROVISIONAL"
    # The target said it.
    ABOVE_TARGET = "ABOVE_TARGET"
    # A comparison's asked speed-up said it.
    FAST_ENOUGH = "FAST_ENOUGH"
    BELOW_SPEEDUP = "BELOW_SPEEDUP"
    # Times on different data said it.
    DATA_INDEPENDENT = "DATA_INDEPENDENT"
    DATA_DEPENDENT = "DATA_DEPENDENT"
    DATA_CHANGES_CLOCK = "DATA_CHANGES_CLOCK"
    # Nothing can be said yet.
    ONE_PROCESS = "ONE_PROCESS"
    STRADDLES_MARGIN = "STRADDLES_MARGIN"
    NOISIER_THAN_BASELINE = "NOISIER_THAN_BASELINE"
    TARGET_IN_INTERVAL = "TARGET_IN_INTERVAL"
    SPEEDUP_IN_INTERVAL = "SPEEDUP_IN_INTERVAL"
    BOUND_NOT_SUPPORTED = "BOUND_NOT_SUPPORTED"
    TOO_FEW_SAMPLES = "TOO_FEW_SAMPLES"
    CLOCK_MOVED = "CLOCK_MOVED"
    THROTTLED = "THROTTLED"
    FOREIGN_PROCESS = "FOREIGN_PROCESS"
    # There is nothing to compare with.
    NO_BASELINE = "NO_BASELINE"
    NOT_IN_REVISION = "NOT_IN_REVISION"
    MIG_DIFFERS = "MIG_DIFFERS"
    ECC_DIFFERS = "ECC_DIFFERS"
    POWER_LIMIT_DIFFERS = "POWER_LIMIT_DIFFERS"
    INPUTS_DIFFER = "INPUTS_DIFFER"
    METHOD_DIFFERS = "METHOD_DIFFERS"
    PLAN_DIFFERS = "PLAN_DIFFERS"
    # Shown only.
    NOT_JUDGED = "NOT_JUDGED"


#: Of verdicts that need no baseline: each begins its sentence with what was found and asked.
BESIDE_BASELINES = frozenset(
    {
        Reason.FAST_ENOUGH,
        Reason.BELOW_SPEEDUP,
        Reason.SPEEDUP_IN_INTERVAL,
        Reason.DATA_INDEPENDENT,
        Reason.DATA_DEPENDENT,
        Reason.DATA_CHANGES_CLOCK,
        Reason.BOUND_NOT_SUPPORTED,
    }
)


class ResourceReason(str, Enum):
    """
    Why what the compiler made of a call's kernels (`resources=`) has its status.
    """

    SAME_CODE = "SAME_CODE"
    CODE_CHANGED = "CODE_CHANGED"
    WITHIN_LIMITS = "WITHIN_LIMITS"
    RESOURCE_LIMIT = "RESOURCE_LIMIT"
    NEW_SPILLS = "NEW_SPILLS"
    LOST_TENSOR_CORES = "LOST_TENSOR_CORES"
    SERIALISED_PRODUCTS = "SERIALISED_PRODUCTS"
    LOWER_OCCUPANCY = "LOWER_OCCUPANCY"
    MORE_REGISTERS = "MORE_REGISTERS"
    OTHER_COMPILER = "OTHER_COMPILER"
    DOES_NOT_COMPILE = "DOES_NOT_COMPILE"
    NOTHING_STORED = "NOTHING_STORED"
    NEEDS_VALUE = "NEEDS_VALUE"
    FIGURES_UNREADABLE = "FIGURES_UNREADABLE"


#: Said inside a sentence, beside whatever the reason is.
MARGIN_BELOW_NOISE = "MARGIN_BELOW_NOISE"
