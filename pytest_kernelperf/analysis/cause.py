"""
Says what is known of why a case became slower: other machine code, another launch, or neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import median

from pytest_kernelperf.analysis.kernels import differences, have_same_code
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.model import (
    Environment,
    Kernel,
    Measurement,
    Process,
    Reference,
    Status,
    Verdict,
)

#: Of a card, what changes times without changing the code: field to its name in a sentence.
_CARD = {
    "name": "card",
    "power_limit_w": "power limit (W)",
    "max_sm_clock_mhz": "highest SM clock (MHz)",
    "ecc": "ECC",
    "mig": "MIG profile",
}
#: Where times of two states of a card are not compared, their code still can be.
_OTHER_STATE = tuple(
    one.value for one in (Reason.MIG_DIFFERS, Reason.ECC_DIFFERS, Reason.POWER_LIMIT_DIFFERS)
)
#: A median clock that moved by less is not worth a word.
_CLOCK_STEP = 0.005


def explained(verdict: Verdict, measurement: Measurement, reference: Reference) -> Verdict:
    """
    Return a verdict that tells the cause of REGRESSED, as far as it is known.

    Where the card's state forbids to compare times, it tells whether the kernel changed.
    """
    told = ""
    if verdict.status is Status.REGRESSED:
        told = explain(measurement, reference)
    elif verdict.reason in _OTHER_STATE:
        told = _kernel_alone(reference.kernels, measurement.kernels)
    return replace(verdict, sentence=f"{verdict.sentence}\n  {told}") if told else verdict


def explain(measurement: Measurement, reference: Reference) -> str:
    """
    Return a paragraph that a person can act on: what differs between a slower run and its baseline.

    Args:
        measurement: What was found slower.
        reference: What it was judged against.
    """
    before, after = reference.kernels, measurement.kernels
    changed = differences(before, after)
    around = list(_surroundings(reference.processes, measurement.processes))
    told = [_code(before, after, changed, measurement.case.timer, is_around=bool(around))]
    if not any(process.environment.gpu for process in measurement.processes):
        told = ["Why: not known; nothing is recorded of code that runs on the processor."]
    if around:
        told.append(f"Around it changed: {'; '.join(around)}.")
    elif have_same_code(before, after) and not changed:
        told.append("Nothing that is recorded of the environment differs.")
    return " ".join(told)


def _code(
    before: Sequence[Kernel],
    after: Sequence[Kernel],
    changed: Sequence[str],
    timer: str,
    *,
    is_around: bool,
) -> str:
    if not before or not after:
        # None is "not known", not "none launched": a baseline may be older than their recording.
        return f"Why: not known; no GPU kernels are recorded {_missing(before, after)}."
    listed = "; ".join(changed)
    same = have_same_code(before, after)
    if same and not changed:
        culprit = _not_the_kernel(timer, is_around=is_around)
        return f"Why: the machine code and its launch are identical, so {culprit}."
    if same:
        return f"Why: the machine code is identical, but it is launched otherwise: {listed}."
    if same is False:
        return f"Why: the machine code changed: {listed or 'in nothing that is counted'}."
    if changed:
        return f"Why: the kernels changed: {listed}."
    return (
        "Why: not known, because the machine code's hash is missing on one side (no Triton kernel, "
        "or a baseline older than hashes); nothing else that is recorded of the kernels differs."
    )


def _kernel_alone(before: Sequence[Kernel], after: Sequence[Kernel]) -> str:
    """
    Return whether the kernel changed, where times can't tell; "" if that is not known.
    """
    changed = differences(before, after) if before and after else ()
    if changed:
        return f"The kernel changed as well: {'; '.join(changed)}."
    if have_same_code(before, after):
        return "The machine code and its launch are identical: the card changed, not the kernel."
    return ""


def _missing(before: Sequence[Kernel], after: Sequence[Kernel]) -> str:
    if before or after:
        return "of this run" if before else "in the baseline"
    return "on either side"


def _not_the_kernel(timer: str, *, is_around: bool) -> str:
    if timer == "wall":
        return "the host's part of the call grew (Python, allocation, launch) or the environment"
    if is_around:
        return "the environment changed, not the kernel"
    return "not the kernel changed, but the environment or the data that it works on"


def _surroundings(before: Sequence[Process], after: Sequence[Process]) -> Iterator[str]:
    old = [process.environment for process in before]
    new = [process.environment for process in after]
    names = sorted({name for one in (*old, *new) for name in one.versions})
    for name in names:
        yield from _moved(
            name, (e.versions.get(name) for e in old), (e.versions.get(name) for e in new)
        )
    for field, words in _CARD.items():
        yield from _moved(words, _of_cards(old, field), _of_cards(new, field))
    if not {e.card for e in new} & {e.card for e in old}:
        yield "another card of the model" if _of_cards(new, "name") else "another processor"
    yield from _clocks(before, after)


def _moved(name: str, before: Iterable[object], after: Iterable[object]) -> Iterator[str]:
    old, new = (
        list(dict.fromkeys(v for v in values if v is not None)) for values in (before, after)
    )
    if old and new and set(old) != set(new) and not set(new) <= set(old):
        yield f"{name} {', '.join(map(_text, old))} -> {', '.join(map(_text, new))}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _of_cards(environments: Sequence[Environment], field: str) -> list[object]:
    return [getattr(one.gpu, field) for one in environments if one.gpu is not None]


def _clocks(before: Sequence[Process], after: Sequence[Process]) -> Iterator[str]:
    old, new = _clock_mhz(before), _clock_mhz(after)
    if old and new and abs(new / old - 1) > _CLOCK_STEP:
        yield f"SM clock {old:.0f} -> {new:.0f} MHz"


def _clock_mhz(processes: Sequence[Process]) -> float | None:
    clocks = [mhz for process in processes for one in process.rounds for mhz in one.clock_mhz]
    return median(clocks) if clocks else None
