"""
What a test holds in its hand: the `kernelperf` fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.errors import KernelPerfFailure, NotMeasuredError, OptionsError
from pytest_kernelperf.options import Layer, Options, merge, parse_keywords
from pytest_kernelperf.results import Compared, Result

if TYPE_CHECKING:
    from pytest_kernelperf.bench import Bench, Place, Room
    from pytest_kernelperf.measure import Subject
    from pytest_kernelperf.model import (
        Comparison,
        Measurement,
        Problem,
        Recorded,
    )

#: Marker keywords that a comparison has no use for.
_JUDGING = frozenset(
    {
        *("target_us", "percentile", "targets", "per", "percentiles", "max_regression"),
        *("flops", "bytes"),
    }
)


class KernelPerf(Result):
    """
    The `kernelperf` fixture: call it with a function and its arguments.

    In a run without `--kernelperf` it calls the function once and returns its output.

    Attributes:
        recorded: Everything measured so far, in order.
        comparisons: Everything compared so far, in order.
    """

    def __init__(
        self,
        layers: tuple[Layer, ...],
        place: Place | None,
        bench: Bench | None,
        room: Callable[[], Room],
        value_of: Callable[[str], Any],
    ) -> None:
        """
        Prepare the fixture of one test.

        Args:
            layers: Checked options in rising precedence; the last is the command line's.
            place: Which test this is; None where nothing is measured.
            bench: Measures and judges; None where nothing is measured.
            room: Gives the measuring room when it is first needed.
            value_of: Value of the test's parameter or fixture; LookupError if there is none.
        """
        self._layers = layers
        self._place = place
        self._bench = bench
        self._room = room
        self._value_of = value_of
        self._calls: dict[str, Result] = {}
        self._compared: set[str] = set()
        self.recorded: list[Recorded] = []
        self.comparisons: list[Comparison] = []

    def __call__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """
        Measure `fn(*args, **kwargs)` and return its own output from a timed call.
        """
        __tracebackhide__ = True
        return self.measure(fn, args, kwargs)

    def measure(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        setup: Callable[[], Any] | None = None,
        **keywords: Any,
    ) -> Any:
        """
        Measure one callable with its own options.

        Args:
            fn: The callable.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            name: Needed if the test measures more than once; then `kernelperf[name]`.
            setup: Called before each round, outside the clock; may return `(args, kwargs)`.
            keywords: Every marker keyword but `requires`, for this measurement.

        Returns:
            The callable's own output.

        Raises:
            KernelPerfFailure: If the measurement is INVALID.
            KernelPerfError: If it can't be measured as asked.
        """
        __tracebackhide__ = True
        key = self._new_name(name)
        options = self._options(keywords, "kernelperf.measure")
        per = self._per(options)
        subject = _subject(fn, tuple(args), dict(kwargs or {}), setup, options)
        if self._bench is None or self._place is None:
            output = self._room().call_once(subject)
            self._calls[key] = Result(None)
            return output
        output, recorded = self._bench.measure(self._place, subject, options, per=per, name=key)
        self.recorded.extend(recorded)
        self._calls[key] = Result(recorded)
        _raise_problems(one.measurement for one in recorded)
        return output

    def compare(
        self,
        callables: Mapping[str, Callable[..., Any]],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        reference: str,
        name: str | None = None,
        setup: Callable[[], Any] | None = None,
        **keywords: Any,
    ) -> Compared:
        """
        Measure callables interleaved on the same arguments; their outputs must agree.

        Args:
            callables: Name to callable, at least two.
            args: The positional arguments of all.
            kwargs: The keyword arguments of all.
            reference: The name of the one that the others are compared with.
            name: Needed if the test compares more than once.
            setup: As in `measure`.
            keywords: Marker keywords that say how to measure.

        Raises:
            KernelPerfFailure: If a measurement is INVALID, or the outputs do not agree.
            KernelPerfError: If they can't be measured as asked.
        """
        __tracebackhide__ = True
        _check_callables(callables, reference)
        key = self._new_name(name or "compare")
        _check_comparison_keywords(keywords)
        options = self._options(keywords, "kernelperf.compare")
        arguments = tuple(args), dict(kwargs or {})
        subjects = {
            label: _subject(fn, *arguments, setup, options) for label, fn in callables.items()
        }
        self._compared.add(key)
        if self._bench is None or self._place is None:
            room = self._room()
            single = {label: room.call_once(one) for label, one in subjects.items()}
            _raise_problem(_disagreement(single, reference) if options.deterministic else None)
            return Compared(single, None)
        outputs, comparison = self._bench.compare(
            self._place, subjects, options, reference=reference, name=key
        )
        if comparison.problem is None and options.deterministic:
            comparison = _checked(comparison, outputs)
        # Before it is raised: a record that leaves the failure out would tell less than the run.
        self.comparisons.append(comparison)
        _raise_problems(comparison.measurements.values())
        _raise_problem(comparison.problem)
        return Compared(outputs, comparison)

    def __getitem__(self, name: str) -> Result:
        """
        Return the result of a named measurement.
        """
        if name not in self._calls:
            known = ", ".join(repr(one) for one in self._calls) or "none"
            raise KeyError(f"no measurement is called {name!r}: this test has {known}")
        return self._calls[name]

    @property
    def measured(self) -> bool:
        """
        Whether this test has measured something.
        """
        return bool(self.recorded or self.comparisons)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """
        The raw measurements of all calls; empty in a run without `--kernelperf`.
        """
        return tuple(one.measurement for one in self.recorded)

    def _all(self) -> tuple[Recorded, ...]:
        if self._bench is not None and not self.recorded:
            raise NotMeasuredError(
                "there is no number, because nothing was measured yet: "
                "call kernelperf(fn, ...) first"
            )
        if len(self._calls) > 1:
            names = ", ".join(repr(one) for one in self._calls)
            raise NotMeasuredError(
                f"this test has {len(self._calls)} measurements ({names}): say which one, "
                f"kernelperf[{next(iter(self._calls))!r}].p50_us"
            )
        self._recorded = tuple(self.recorded)
        return super()._all()

    def _new_name(self, name: str | None) -> str:
        if name is not None and (not isinstance(name, str) or not name.strip() or "|" in name):
            raise OptionsError(f"name: expected a text without '|', got {name!r}")
        key = name or ""
        if key not in self._calls and key not in self._compared:
            return key
        if not key:
            raise OptionsError(
                "this test measures twice without a name, and a baseline could not tell which is "
                "which: write kernelperf.measure(fn, args, name='forward')"
            )
        raise OptionsError(
            f"this test has two measurements called {key!r}: give each its own name="
        )

    def _options(self, keywords: Mapping[str, Any], where: str) -> Options:
        if "requires" in keywords:
            raise OptionsError(
                f"{where}: requires= skips a test before it starts, and it runs already: "
                "put it into the marker"
            )
        own = parse_keywords(keywords, where=where)
        return merge((*self._layers[:-1], own, *self._layers[-1:]))

    def _per(self, options: Options) -> float:
        if not isinstance(options.per, str):
            return options.per
        name = options.per
        try:
            value = self._value_of(name)
        except LookupError:
            raise OptionsError(
                f"per={name!r}: expected the name of a parameter or fixture of this test, "
                "and it has none of that name"
            ) from None
        return _items(name, value)


def _items(name: str, value: Any) -> float:
    try:
        return float(parse_keywords({"per": value})["per"])
    except (OptionsError, ValueError):
        raise OptionsError(
            f"per={name!r}: expected a parameter or fixture that holds a number above 0, "
            f"got {value!r}"
        ) from None


def _subject(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    setup: Callable[[], Any] | None,
    options: Options,
) -> Subject:
    from pytest_kernelperf.measure import Subject

    return Subject(
        fn=fn,
        args=args,
        kwargs=kwargs,
        setup=setup,
        mutates=options.mutates,
        check=options.check,
        deterministic=options.deterministic,
    )


def _check_callables(callables: Mapping[str, Callable[..., Any]], reference: str) -> None:
    if not isinstance(callables, Mapping) or len(callables) < 2:
        raise OptionsError(
            "kernelperf.compare: expected a dictionary of at least two callables such as "
            f"{{'ours': f, 'torch': g}}, got {callables!r}"
        )
    if reference not in callables:
        known = ", ".join(repr(name) for name in callables)
        raise OptionsError(
            f"kernelperf.compare: reference: expected one of {known}, got {reference!r}"
        )


def _check_comparison_keywords(keywords: Mapping[str, Any]) -> None:
    idle = sorted(_JUDGING.intersection(keywords))
    if idle:
        raise OptionsError(
            f"kernelperf.compare: {idle[0]}= judges against a target, a baseline or the card, and "
            "a comparison does not: use kernelperf.measure for it"
        )


def _raise_problems(measurements: Iterable[Measurement]) -> None:
    __tracebackhide__ = True
    for measurement in measurements:
        problem = measurement.problem
        if problem is not None:
            case = measurement.case
            raise KernelPerfFailure(
                f"INVALID {case.label} [{case.timer}] ({problem.code})\n  {problem.message}"
            )


def _raise_problem(problem: Problem | None) -> None:
    __tracebackhide__ = True
    if problem is not None:
        raise KernelPerfFailure(f"INVALID ({problem.code})\n  {problem.message}")


def _disagreement(outputs: Mapping[str, Any], reference: str) -> Problem | None:
    from pytest_kernelperf.measure.agreement import disagreement
    from pytest_kernelperf.model import Problem

    for name, output in outputs.items():
        difference = disagreement(outputs[reference], output)
        if difference is not None:
            return Problem(
                "WRONG_OUTPUT",
                f"{name!r} does not agree with {reference!r}, so their times say nothing about "
                f"each other: {difference}. Make them compute the same, or declare them random "
                "with deterministic=False",
            )
    return None


def _checked(comparison: Comparison, outputs: Mapping[str, Any]) -> Comparison:
    """
    Return the comparison with how far the outputs are apart; INVALID if that is too far.
    """
    problem = _disagreement(outputs, comparison.reference)
    if problem is not None:
        return replace(comparison, ratios=(), problem=problem)
    return _with_differences(comparison, outputs)


def _with_differences(comparison: Comparison, outputs: Mapping[str, Any]) -> Comparison:
    """
    Return the comparison with how far each output is from the reference's.
    """
    from pytest_kernelperf.measure.agreement import compare

    expected = outputs[comparison.reference]
    return replace(
        comparison,
        ratios=tuple(
            replace(ratio, max_abs_difference=compare(expected, outputs[ratio.name]).max_abs)
            if ratio.name != comparison.reference
            else ratio
            for ratio in comparison.ratios
        ),
    )
