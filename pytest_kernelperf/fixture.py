"""
What a test holds in its hand: the `kernelperf` fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.comparing import (
    bounds_of,
    check_arguments,
    check_callables,
    check_inputs,
    check_keywords,
    checked,
    disagreement,
    least_speedups,
    tolerance_of,
)
from pytest_kernelperf.errors import KernelPerfFailure, NotMeasuredError, OptionsError
from pytest_kernelperf.options import Layer, Options, merge, parse_keywords
from pytest_kernelperf.results import Compared, DataIndependence, Result

if TYPE_CHECKING:
    from pytest_kernelperf.bench import Bench, Place, Room
    from pytest_kernelperf.gpuless import GpulessBench
    from pytest_kernelperf.measure import Subject
    from pytest_kernelperf.model import (
        Comparison,
        Compiled,
        Independence,
        Measurement,
        Problem,
        Recorded,
    )


class KernelPerf(Result):
    """
    The `kernelperf` fixture: call it with a function and its arguments.

    In a run without `--kernelperf` it calls the function once and returns its output.

    Attributes:
        recorded: Everything measured so far, in order.
        comparisons: Everything compared so far, in order.
        independences: Every `data_independence` so far, in order.
        compiled: What the compiler made of the kernels, for `resources=`.
    """

    def __init__(
        self,
        layers: tuple[Layer, ...],
        place: Place | None,
        bench: Bench | GpulessBench | None,
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
        self._is_over = False
        self.recorded: list[Recorded] = []
        self.comparisons: list[Comparison] = []
        self.independences: list[Independence] = []
        self.compiled: list[Compiled] = []

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
        check_arguments(args, kwargs, "kernelperf.measure")
        key = self._new_name(name)
        options = self._options(keywords, "kernelperf.measure")
        per = self._per(options)
        subject = _subject(fn, tuple(args), dict(kwargs or {}), setup, options)
        if self._bench is None or self._place is None:
            output = self._room().call_once(subject)
            self._calls[key] = Result(None)
            return output
        try:
            output, recorded = self._bench.measure(self._place, subject, options, per=per, name=key)
        finally:
            self.compiled.extend(self._bench.take_compiled())
        self.recorded.extend(recorded)
        self._calls[key] = Result(recorded or None)
        _raise_problems(one.measurement for one in recorded)
        return output

    def compare(
        self,
        callables: Mapping[str, Callable[..., Any]],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        reference: str,
        min_speedup: float | Mapping[str, float] | None = None,
        rtol: float | None = None,
        atol: float | None = None,
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
            min_speedup: The least speed-up over the reference: a number for every other callable,
                or a dictionary by name. Judged by the whole interval, after the test's body.
            rtol: Relative tolerance of the outputs, in place of each dtype's own.
            atol: Absolute tolerance; with one of the two given, the other is 0.
            name: Needed if the test compares more than once.
            setup: As in `measure`.
            keywords: Marker keywords that say how to measure.

        Raises:
            KernelPerfFailure: If a measurement is INVALID, or the outputs do not agree.
            KernelPerfError: If they can't be measured as asked.
        """
        __tracebackhide__ = True
        check_callables(callables, reference)
        check_arguments(args, kwargs, "kernelperf.compare")
        least = least_speedups(min_speedup, callables, reference)
        tolerance = tolerance_of(rtol, atol)
        key = self._new_name(name or "compare")
        check_keywords(keywords, "kernelperf.compare")
        options = self._options(keywords, "kernelperf.compare")
        arguments = tuple(args), dict(kwargs or {})
        subjects = {
            label: _subject(fn, *arguments, setup, options) for label, fn in callables.items()
        }
        self._compared.add(key)
        if self._bench is None or self._place is None:
            room = self._room()
            single = {label: room.call_once(one) for label, one in subjects.items()}
            if options.deterministic:
                _raise_problem(disagreement(single, reference, tolerance))
            return Compared(single, None)
        outputs, comparison = self._bench.compare(
            self._place, subjects, options, reference=reference, name=key, min_speedup=least
        )
        if comparison.problem is None and options.deterministic:
            comparison = checked(comparison, outputs, tolerance)
        # Before it is raised: a record that leaves the failure out would tell less than the run.
        self.comparisons.append(comparison)
        _raise_problems(comparison.measurements.values())
        _raise_problem(comparison.problem)
        return Compared(outputs, comparison)

    def data_independence(
        self,
        fn: Callable[..., Any],
        inputs: Mapping[str, tuple[Any, ...]],
        *,
        bound: float | Mapping[float, float] = 0.01,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **keywords: Any,
    ) -> DataIndependence:
        """
        Test that a callable takes equally long on inputs of one shape and different content.

        Args:
            fn: The callable.
            inputs: Name to positional arguments, at least two.
            bound: The relative difference that no two inputs may reach: at P50, or by percentile.
            kwargs: The keyword arguments of all.
            name: Needed if the test does this more than once.
            keywords: Marker keywords that say how to measure.

        Raises:
            KernelPerfFailure: If a measurement is INVALID.
            KernelPerfError: If it can't be measured as asked.
        """
        __tracebackhide__ = True
        check_inputs(inputs, kwargs)
        bounds = bounds_of(bound)
        key = self._new_name(name or "data_independence")
        check_keywords(keywords, "kernelperf.data_independence")
        options = self._options(keywords, "kernelperf.data_independence")
        subjects = {
            label: _subject(fn, tuple(args), dict(kwargs or {}), None, options)
            for label, args in inputs.items()
        }
        self._compared.add(key)
        if self._bench is None or self._place is None:
            room = self._room()
            return DataIndependence({n: room.call_once(one) for n, one in subjects.items()}, None)
        outputs, found = self._bench.contrast_inputs(
            self._place, subjects, options, name=key, bounds=bounds
        )
        self.independences.append(found)
        _raise_problems(found.measurements.values())
        return DataIndependence(outputs, found)

    def __getitem__(self, name: str) -> Result:
        """
        Return the result of a named measurement.
        """
        __tracebackhide__ = True
        if name not in self._calls:
            known = ", ".join(repr(one) for one in self._calls) or "none"
            raise KeyError(f"no measurement is called {name!r}: this test has {known}")
        return self._calls[name]

    def end(self) -> None:
        """
        Take no more measurements: what the test brought is judged now.
        """
        self._is_over = True

    @property
    def measured(self) -> bool:
        """
        Whether this test has measured something.
        """
        return bool(self.recorded or self.comparisons or self.independences)

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
        return Result(tuple(self.recorded))._all()

    def _new_name(self, name: str | None) -> str:
        if self._is_over:
            raise OptionsError(
                "measured after the test's end, when it is judged already: nothing would come of "
                "it; measure in the test's body, not in a fixture's teardown"
            )
        if name is not None and not _is_name(name):
            raise OptionsError(
                "name: expected a printable text without '|' and without space at its ends, got "
                f"{name!r}"
            )
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


def _is_name(name: object) -> bool:
    # It stands in baselines' keys and in tables: half a character can't be written, and "x" and
    # "x " look alike.
    if not isinstance(name, str) or not name or "|" in name:
        return False
    return name.isprintable() and name == name.strip()


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
