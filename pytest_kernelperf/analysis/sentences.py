"""
What a verdict says to a person: one text per reason, with the numbers and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_kernelperf.analysis.change import ChangeEstimate
from pytest_kernelperf.analysis.comparability import Difference
from pytest_kernelperf.analysis.decision import TargetResult
from pytest_kernelperf.analysis.evidence import Circumstances, excuse, explained_by_clocks
from pytest_kernelperf.analysis.intervals import samples_needed
from pytest_kernelperf.analysis.looks import next_look
from pytest_kernelperf.analysis.margins import MIN_PROCESSES
from pytest_kernelperf.analysis.reasons import MARGIN_BELOW_NOISE, Reason
from pytest_kernelperf.model import Interval, Status
from pytest_kernelperf.units import counted, format_percent, format_percentile, format_us


@dataclass(frozen=True)
class Story:
    """
    Everything a sentence may mention; what was not found stays None.

    Attributes:
        asked_margin: The test's own margin, if it has one.
        supported_margin: What the baseline's noise supports.
        detectable: The minimum detectable slowdown.
        settled_by: Candidate processes that would decide; None if no number would.
        baseline_processes: On this card, or on all where this card has none.
        candidate_processes: With at least one kept sample.
        beyond: What a process must lie off by to speak for the change.
        agreeing: Those of them that do, alone and with most of their rounds.
        slowed_by_clock: Those that would, were it not for their own fallen clocks.
        samples: Kept, of all rounds.
    """

    percentile: float
    status: Status
    reason: str
    time_us: float | None = None
    own: Interval | None = None
    baseline_us: float | None = None
    change: ChangeEstimate | None = None
    margin: float | None = None
    asked_margin: float | None = None
    supported_margin: float | None = None
    detectable: float | None = None
    settled_by: int | None = None
    target_us: float | None = None
    per: float = 1.0
    target: TargetResult = TargetResult.NONE
    difference: Difference | None = None
    seen: Circumstances | None = None
    baseline_processes: int = 0
    candidate_processes: int = 0
    beyond: float | None = None
    agreeing: int = 0
    slowed_by_clock: int = 0
    other_card: bool = False
    other_shares: bool = False
    samples: int = 0
    elsewhere: Sequence[str] = ()


def tell(story: Story) -> str:
    """
    Return the verdict's sentence, then what else must be known.
    """
    head = _HEADS.get(story.reason, _change_head)(story)
    target = "" if story.reason in _TELL_TARGET_THEMSELVES else _target_clause(story)
    return " ".join(part for part in (head, target, *_reservations(story)) if part)


def _change_head(story: Story) -> str:
    """
    Tell the change, for every reason that rests on it.
    """
    if story.change is None:
        return f"{_subject(story)} could not be compared."
    verb = {
        Status.REGRESSED: "slower than the baseline by more than the margin",
        Status.IMPROVED: "faster than the baseline by more than the margin",
        Status.UNCHANGED: "unchanged within the margin",
    }.get(story.status, "not decided: the interval reaches the margin")
    return f"{_subject(story)} is {verb}: {_numbers(story)}.{_settle(story)}"


def _settle(story: Story) -> str:
    if story.status is not Status.INCONCLUSIVE:
        return ""
    if story.settled_by is not None:
        more = story.settled_by - story.candidate_processes
        return f" To settle it takes about {counted(more, 'more process', 'more processes')}."
    if (story.supported_margin or 0.0) > (story.margin or 0.0):
        return (
            f" More processes can't settle it: the baseline's noise allows no margin below "
            f"{_share(story.supported_margin)}. Record it anew, in more processes or on a quieter "
            "machine: kernelperf prune --tests, then update."
        )
    return (
        " It lies on the margin, where more processes can't settle it; a baseline recorded anew in "
        "more processes narrows the interval."
    )


def _one_process(story: Story) -> str:
    change = story.change.relative if story.change else 0.0
    more = next_look(story.candidate_processes) - story.candidate_processes
    return (
        f"{_subject(story)} looks {'slower' if change > 0 else 'faster'} than the baseline by more "
        f"than the margin ({_numbers(story)}), but {_who_says_so(story)} can't tell a changed "
        f"kernel from an odd process{_more_processes(more)}"
    )


def _who_says_so(story: Story) -> str:
    if story.candidate_processes == 1:
        return "one process"
    beyond = "it"
    if (story.beyond or 0.0) > (story.margin or 0.0):
        beyond = f"the {_share(story.beyond)} that the baseline's noise takes"
    if not story.agreeing:
        return f"{story.candidate_processes} processes with most of their rounds within {beyond}"
    return f"the {story.agreeing} of {story.candidate_processes} processes that are beyond {beyond}"


def _more_processes(more: int) -> str:
    if not more:
        return ". Run it again."
    return f": {more} more fresh process{'es decide' if more > 1 else ' decides'}."


def _noisier(story: Story) -> str:
    if _is_beyond(story):
        return (
            f"{_subject(story)} is not decided: it looks changed by more than the margin "
            f"({_numbers(story)}), but its rounds scatter far more than the baseline's, and only "
            f"{_who_says_so(story)} say so. Look for other load on the machine, or for a kernel "
            "that became uneven."
        )
    return (
        f"{_subject(story)} is not decided: its rounds scatter far more than the baseline's, so "
        f"the interval was widened ({_numbers(story)}). Look for other load on the machine, or for "
        "a kernel that became uneven."
    )


def _is_beyond(story: Story) -> bool:
    if story.change is None or story.margin is None:
        return False
    span = story.change.interval
    return span.low > story.margin or span.high < -story.margin


def _clock_moved(story: Story) -> str:
    if _is_explained_over_all(story):
        where = f"so was the clock: {_clocks(story)}, which explains up to {_clock_share(story)}"
    else:
        where = (
            f"in {story.slowed_by_clock} of {story.candidate_processes} processes so was the "
            "clock, by enough to explain theirs, and the others are too few to call the kernel "
            f"slower (means over all: {_clocks(story)})"
        )
    return (
        f"{_subject(story)} is slower ({_numbers(story)}), but {where}. The kernel is not blamed; "
        "let the card rest, or compare at equal clocks."
    )


def _is_explained_over_all(story: Story) -> bool:
    if story.change is None or story.margin is None or story.seen is None:
        return False
    found = excuse(story.seen, story.change.interval.low, story.margin)
    return found is Reason.CLOCK_MOVED


def _throttled(story: Story) -> str:
    seen = story.seen or Circumstances()
    return (
        f"{_subject(story)} is slower ({_numbers(story)}), but the card was limited "
        f"({', '.join(seen.throttle_names)}) in {_share(seen.throttled)} of the rounds, the "
        f"baseline's in {_share(seen.baseline_throttled)}; {_clocks(story)}. Let the card rest and "
        "measure again."
    )


def _foreign(story: Story) -> str:
    return (
        f"{_subject(story)} is slower ({_numbers(story)}), but {_foreign_clause(story)}. "
        "Measure again on a card of your own."
    )


def _above_target(story: Story) -> str:
    return f"{_target_subject(story)} misses its target: {_target_numbers(story)}."


def _target_inside(story: Story) -> str:
    return (
        f"{_target_subject(story)} can't be told from its target: {_target_numbers(story)}. "
        "More samples narrow the interval."
    )


def _too_few(story: Story) -> str:
    return (
        f"{_subject(story)} can't be judged from {story.samples} samples: an interval for it takes "
        f"at least {samples_needed(story.percentile)}. Raise rounds= or samples=."
    )


def _no_baseline(story: Story) -> str:
    found = f" Found elsewhere: {', '.join(story.elsewhere)}." if story.elsewhere else ""
    return (
        f"{_subject(story)} has no baseline for this model of card or processor. Record one "
        f"with --kernelperf-update-new --kernelperf-processes 5.{found}"
    )


def _incomparable(story: Story) -> str:
    found = story.difference
    if found is None:
        return f"{_subject(story)} can't be compared with the baseline."
    cure = {
        Reason.INPUTS_DIFFER: "Restore the inputs, or record the new ones: remove the entry with "
        "`kernelperf prune --tests` and update.",
        Reason.METHOD_DIFFERS: "See the measurement's notes for why; if the new way is meant, "
        "remove the entry with `kernelperf prune --tests` and update.",
        Reason.PLAN_DIFFERS: "Leave the plan to the baseline, or remove the entry with "
        "`kernelperf prune --tests` and update.",
    }.get(found.reason, "Put the card back into that state, or measure on another one.")
    return (
        f"{_subject(story)} can't be compared with the baseline: {found.key} was {found.baseline}, "
        f"is {found.now}. {cure}"
    )


def _not_judged(story: Story) -> str:
    return f"{_subject(story)} is shown, not judged; name it in percentiles= to judge it."


_HEADS = {
    Reason.ONE_PROCESS.value: _one_process,
    Reason.NOISIER_THAN_BASELINE.value: _noisier,
    Reason.CLOCK_MOVED.value: _clock_moved,
    Reason.THROTTLED.value: _throttled,
    Reason.FOREIGN_PROCESS.value: _foreign,
    Reason.ABOVE_TARGET.value: _above_target,
    Reason.TARGET_IN_INTERVAL.value: _target_inside,
    Reason.TOO_FEW_SAMPLES.value: _too_few,
    Reason.NO_BASELINE.value: _no_baseline,
    Reason.NOT_JUDGED.value: _not_judged,
    Reason.MIG_DIFFERS.value: _incomparable,
    Reason.ECC_DIFFERS.value: _incomparable,
    Reason.POWER_LIMIT_DIFFERS.value: _incomparable,
    Reason.INPUTS_DIFFER.value: _incomparable,
    Reason.METHOD_DIFFERS.value: _incomparable,
    Reason.PLAN_DIFFERS.value: _incomparable,
}
_TELL_TARGET_THEMSELVES = {
    Reason.ABOVE_TARGET.value,
    Reason.TARGET_IN_INTERVAL.value,
    Reason.NOT_JUDGED.value,
}


def _target_clause(story: Story) -> str:
    if story.target is TargetResult.MISSED:
        return f"It also misses its target: {_target_numbers(story)}."
    if story.target is TargetResult.INSIDE:
        return f"Its target lies within its interval: {_target_numbers(story)}."
    return ""


def _reservations(story: Story) -> list[str]:
    notes = []
    if story.seen and story.seen.foreign_rounds and story.status is Status.MISSED_TARGET:
        notes.append(f"Beware: {_foreign_clause(story)}.")
    if story.change is None or story.reason == Reason.NOT_JUDGED:
        return notes
    notes += [_card_note(story), _provisional_note(story), _clock_note(story)]
    if story.change.noisier and story.reason != Reason.NOISIER_THAN_BASELINE:
        notes.append("Its rounds scatter far more than the baseline's; the interval allows for it.")
    # Last, because reports cut the sentence here to repeat this note alone.
    return [*notes, _margin_note(story)]


def _margin_note(story: Story) -> str:
    asked, supported = story.asked_margin, story.supported_margin
    if asked is None or supported is None or asked >= supported:
        return ""
    return (
        f"{MARGIN_BELOW_NOISE}: the asked margin of {_share(asked)} is smaller than the "
        f"{_share(supported)} that the baseline's noise supports, so expect INCONCLUSIVE verdicts."
    )


def _card_note(story: Story) -> str:
    if story.other_shares:
        return (
            "The baseline has rounds of the same cards, but in other shares, and cards of one "
            "model differ by up to 2 %: the interval allows for that. Judge each card's processes "
            "by themselves to compare each card with its own."
        )
    if not story.other_card:
        return ""
    return (
        "The baseline has no rounds of this card, and cards of one model differ by up to 2 %: the "
        "interval allows for that. Update on this card to judge it by its own."
    )


def _provisional_note(story: Story) -> str:
    missing = MIN_PROCESSES - story.baseline_processes
    if missing <= 0:
        return ""
    times = "once" if missing == 1 else f"{missing} times"
    return (
        f"The baseline is provisional ({story.baseline_processes} of at least {MIN_PROCESSES} "
        "processes), so its noise is assumed and the margin is wide; run --kernelperf-update "
        f"{times} more to complete it (a record: --kernelperf-processes {MIN_PROCESSES})."
    )


def _clock_note(story: Story) -> str:
    seen = story.seen or Circumstances()
    if story.status is not Status.REGRESSED or not explained_by_clocks(seen):
        return ""
    return f"A lower clock explains at most {_clock_share(story)} of it ({_clocks(story)})."


def _subject(story: Story) -> str:
    time = f" ({format_us(story.time_us)})" if story.time_us is not None else ""
    return f"{format_percentile(story.percentile)}{time}"


def _target_subject(story: Story) -> str:
    # One item a call: the figure beside the limit is the same time once more.
    return format_percentile(story.percentile) if story.per == 1 else _subject(story)


def _numbers(story: Story) -> str:
    if story.change is None:
        return "no change known"
    span = story.change.interval
    return (
        f"{format_percent(story.change.relative)} against {format_us(story.baseline_us)}, "
        f"95 % interval {format_percent(span.low)} to {format_percent(span.high)}, "
        f"margin {_share(story.margin)}"
    )


def _target_numbers(story: Story) -> str:
    per = f" per item ({story.per:g} items a call)" if story.per != 1 else ""
    time = format_us(None if story.time_us is None else story.time_us / story.per)
    if story.own is None:
        return f"{time}{per}, limit {format_us(story.target_us)}"
    low, high = story.own.low / story.per, story.own.high / story.per
    return (
        f"{time}{per}, 95 % interval {format_us(low)} to {format_us(high)}, "
        f"limit {format_us(story.target_us)}"
    )


def _clocks(story: Story) -> str:
    seen = story.seen or Circumstances()
    memory = ""
    if seen.memory_mhz and seen.baseline_memory_mhz and seen.memory_mhz != seen.baseline_memory_mhz:
        memory = _clock_pair("memory clock", seen.memory_mhz, seen.baseline_memory_mhz)
    if seen.clock_mhz is None or seen.baseline_clock_mhz is None:
        return memory or "SM clock not known on both sides"
    core = _clock_pair("SM clock", seen.clock_mhz, seen.baseline_clock_mhz)
    return f"{core}; {memory}" if memory else core


def _clock_pair(name: str, now_mhz: float, before_mhz: float) -> str:
    return f"{name} {now_mhz:.0f} MHz, baseline {before_mhz:.0f} MHz"


def _clock_share(story: Story) -> str:
    return _share(math.expm1(explained_by_clocks(story.seen or Circumstances())))


def _foreign_clause(story: Story) -> str:
    seen = story.seen or Circumstances()
    return f"another process computed on the card in {seen.foreign_rounds} of {seen.rounds} rounds"


def _share(fraction: float | None) -> str:
    return format_percent(fraction, signed=False)
