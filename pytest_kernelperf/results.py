"""
The numbers that a measured call gives to its test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.errors import NotMeasuredError, OptionsError

if TYPE_CHECKING:
    from pytest_kernelperf.model import (
        Comparison,
        Contrast,
        Independence,
        Interval,
        Measurement,
        Ratio,
        Recorded,
        Verdict,
    )

_CURE = "run pytest with --kernelperf, or ask `if kernelperf.measured:` first"

#: From the verdict that a reader must see first to the one that says all is well.
_SEVERITY = (
    "INVALID",
    "REGRESSED",
    "MISSED_TARGET",
    "INCOMPARABLE",
    "INCONCLUSIVE",
    "NO_BASELINE",
    "UNCHANGED",
    "IMPROVED",
)


class Result:
    """
    One call's measurements as plain numbers, microseconds per call.

    Where several timers measured, a number comes from the first one named that can give it.
    """

    def __init__(self, recorded: tuple[Recorded, ...] | None) -> None:
        self._recorded = recorded

    @property
    def measured(self) -> bool:
        """
        Whether there are numbers: False in a run without `--kernelperf`.
        """
        return bool(self._recorded)

    @property
    def p50_us(self) -> float:
        """
        The median, microseconds.
        """
        return self.percentile_us(50)

    @property
    def p95_us(self) -> float:
        """
        The 95th percentile, microseconds; never from the device timer.
        """
        return self.percentile_us(95)

    @property
    def p99_us(self) -> float:
        """
        The 99th percentile, microseconds; never from the device timer.
        """
        return self.percentile_us(99)

    def percentile_us(self, q: float) -> float:
        """
        Return a percentile of the time per call, microseconds.

        Args:
            q: Between 0 and 100.

        Raises:
            NotMeasuredError: If this run did not measure, or no timer of it can give `q`.
        """
        from pytest_kernelperf.analysis import percentile_us

        return percentile_us(self._giving(q).processes, q)

    def interval_us(self, q: float) -> Interval | None:
        """
        Return the two-sided 95 % interval of a percentile; None if the samples are too few for it.

        Raises:
            NotMeasuredError: As for `percentile_us`.
        """
        from pytest_kernelperf.analysis import interval_us

        return interval_us(self._giving(q).processes, q)

    @property
    def samples_us(self) -> tuple[float, ...]:
        """
        All kept samples of the first timer, microseconds per call.
        """
        processes = self._all()[0].measurement.processes
        rounds = (one for process in processes for one in process.rounds)
        return tuple(time for one in rounds for time in one.times_us)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """
        Every judged percentile's verdict.
        """
        found = (verdict for one in self._all() for verdict in one.verdicts)
        return tuple(verdict for verdict in found if verdict.judged)

    @property
    def verdict(self) -> Verdict:
        """
        The verdict that matters most: the worst of all judged percentiles.
        """
        return min(self.verdicts, key=lambda verdict: _SEVERITY.index(verdict.status.value))

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """
        The raw measurements, one per timer; empty in a run without `--kernelperf`.
        """
        return tuple(one.measurement for one in self._recorded or ())

    def _all(self) -> tuple[Recorded, ...]:
        if not self._recorded:
            raise NotMeasuredError(
                f"there is no number, because this run does not measure: {_CURE}"
            )
        return self._recorded

    def _giving(self, q: float) -> Measurement:
        from pytest_kernelperf.asks import can_give

        if not 0 < q < 100:
            raise OptionsError(f"expected a percentile between 0 and 100, got {q!r}")
        for measurement in (one.measurement for one in self._all()):
            if can_give(measurement.case.timer, q):
                return measurement
        raise NotMeasuredError(
            f"P{q:g} was not measured: a device sample is a mean over many calls and gives P50 "
            f"only; mark the test with percentiles=(50, {q:g}) or timer='launch'"
        )


class Compared:
    """
    Callables measured interleaved: their outputs, and their speed-ups over one of them.

    Attributes:
        outputs: Each callable's own output.
        comparison: The record with all ratios; None in a run without `--kernelperf`.
    """

    def __init__(self, outputs: Mapping[str, Any], comparison: Comparison | None) -> None:
        self.outputs = dict(outputs)
        self.comparison = comparison

    @property
    def measured(self) -> bool:
        """
        Whether there are ratios: False in a run without `--kernelperf`.
        """
        return self.comparison is not None

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """
        One ratio with its interval per callable.
        """
        if self.comparison is None:
            raise NotMeasuredError(f"there is no ratio, because this run does not measure: {_CURE}")
        return self.comparison.ratios

    def __getitem__(self, name: str) -> Ratio:
        """
        Return the ratio of one callable.
        """
        for ratio in self.ratios:
            if ratio.name == name:
                return ratio
        known = ", ".join(repr(one) for one in self.outputs)
        raise KeyError(f"no callable {name!r} was compared: expected one of {known}")

    def speedup(self, name: str) -> float:
        """
        Return the reference's time over this callable's: 1.25 = 25 % faster than the reference.
        """
        return self[name].speedup


class DataIndependence:
    """
    One callable measured interleaved on inputs of different content.

    Attributes:
        outputs: The output for each input, by name.
        record: The record with all contrasts; None in a run without `--kernelperf`.
    """

    def __init__(self, outputs: Mapping[str, Any], record: Independence | None) -> None:
        self.outputs = dict(outputs)
        self.record = record

    @property
    def measured(self) -> bool:
        """
        Whether there are numbers: False in a run without `--kernelperf`.
        """
        return self.record is not None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """
        One verdict per percentile, on the two inputs that are most apart.
        """
        return self._known().verdicts

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """
        Every two inputs at every percentile, with their difference and its interval.
        """
        return self._known().contrasts

    def supported_bound(self, q: float = 50) -> float:
        """
        Return the smallest bound that the data support: no two inputs differ by as much.

        Raises:
            NotMeasuredError: If this run did not measure, or not this percentile.
        """
        found = self._known().supported(q)
        if found is None:
            raise NotMeasuredError(
                f"P{q:g} was not measured: name it in bound=, such as {{{q:g}: 0.05}}"
            )
        return found

    def _known(self) -> Independence:
        if self.record is None:
            raise NotMeasuredError(f"there is no bound, because this run does not measure: {_CURE}")
        return self.record
