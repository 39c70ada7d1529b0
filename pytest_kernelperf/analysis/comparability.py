"""
Whether a baseline may be compared with at all: how it was measured is part of what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import Environment, Measurement, Reference, Way

# Of the card's state, what changes a time (power limit, ECC, MIG) and how
# it is called.
_CARD_STATE = (
    (Reason.MIG_DIFFERS, "mig", "MIG profile"),
    (Reason.ECC_DIFFERS, "ecc", "ECC"),
    (Reason.POWER_LIMIT_DIFFERS, "power_limit_w", "power limit (W)"),
)


@dataclass(frozen=True)
class Difference:
    """
    One thing that forbids the comparison.
    """

    reason: Reason
    key: str
    baseline: str
    now: str


def find_difference(measurement: Measurement, reference: Reference) -> Difference | None:
    """
    Return the first difference that makes a measurement and a baseline incomparable.

    Versions, dates, and the card's serial number do not: "did the upgrade slow us" is a question
    to answer, and another card of the model is judged with a term of its own.
    """
    before, now = reference.way, measurement.way
    if before != now:
        return _ways_differ(before, now)
    return _card_state_differs(measurement, reference)


def _ways_differ(before: Way, now: Way) -> Difference:
    if before.inputs != now.inputs:
        return _inputs_differ(before.inputs, now.inputs)
    if before.method != now.method:
        return Difference(Reason.METHOD_DIFFERS, "method", before.method, now.method)
    pairs = zip(before.pinned, now.pinned, strict=True)
    (name, old), (_, new) = next((one, other) for one, other in pairs if one != other)
    return Difference(Reason.PLAN_DIFFERS, name, f"{old:g}", f"{new:g}")


def _card_state_differs(measurement: Measurement, reference: Reference) -> Difference | None:
    for process in measurement.processes:
        for recorded in reference.processes:
            found = _environments_differ(recorded.environment, process.environment)
            if found:
                return found
    return None


def _environments_differ(before: Environment, now: Environment) -> Difference | None:
    if before.gpu is None or now.gpu is None:
        return None
    for reason, attribute, key in _CARD_STATE:
        old, new = getattr(before.gpu, attribute), getattr(now.gpu, attribute)
        # None: the driver did not say, then or now; unknown is no evidence of a difference.
        if old != new and old is not None and new is not None:
            return Difference(reason, key, _shown(old), _shown(new))
    return None


def _inputs_differ(before: tuple[str, ...], now: tuple[str, ...]) -> Difference:
    if len(before) != len(now):
        return Difference(
            Reason.INPUTS_DIFFER, "number of tensor inputs", str(len(before)), str(len(now))
        )
    index = next(i for i, (old, new) in enumerate(zip(before, now, strict=True)) if old != new)
    return Difference(Reason.INPUTS_DIFFER, f"input {index}", before[index], now[index])


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or "none"
