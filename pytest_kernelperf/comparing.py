"""
Checks what `compare` and `data_independence` are given, and whether compared outputs agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import zip_longest
from numbers import Real
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.model import Comparison, Problem

if TYPE_CHECKING:
    from pytest_kernelperf.measure import CallShape, Tolerance

#: Marker keywords that judge against a target, a baseline or the card: a comparison does not.
_JUDGING = frozenset(
    {
        *("target_us", "percentile", "targets", "per", "percentiles", "max_regression"),
        "resources",
        *("flops", "bytes"),
    }
)


def check_callables(callables: Mapping[str, Callable[..., Any]], reference: str) -> None:
    """
    Refuse what can't be compared.

    Raises:
        OptionsError: Fewer than two callables, or a reference that is none of them.
    """
    if not isinstance(callables, Mapping) or len(callables) < 2:
        raise OptionsError(
            "kernelperf.compare: expected a dictionary of at least two callables such as "
            f"{{'ours': f, 'torch': g}}, got {callables!r}"
        )
    if reference not in callables:
        raise OptionsError(
            f"kernelperf.compare: reference: expected one of {_known(callables)}, got {reference!r}"
        )


def check_inputs(inputs: Mapping[str, tuple[Any, ...]], kwargs: object) -> None:
    """
    Refuse inputs that can't be told from each other.

    Raises:
        OptionsError: Fewer than two, or arguments of another kind than in a call.
    """
    if not isinstance(inputs, Mapping) or len(inputs) < 2:
        raise OptionsError(
            "kernelperf.data_independence: expected a dictionary of at least two inputs such as "
            f"{{'zeros': (x,), 'random': (y,)}}, got {type(inputs).__name__}"
        )
    for name, args in inputs.items():
        check_arguments(args, kwargs, f"kernelperf.data_independence: {name!r}")


def check_arguments(args: object, kwargs: object, where: str) -> None:
    """
    Refuse arguments that are no tuple: a tensor would fall into its rows, and a row be measured.

    Args:
        args: The positional arguments of a call.
        kwargs: Its keyword arguments; None if there are none.
        where: What the message names first.

    Raises:
        OptionsError: For the first that is of another kind.
    """
    if not isinstance(args, tuple | list):
        raise OptionsError(
            f"{where}: expected the positional arguments as a tuple, got {type(args).__name__}: "
            "write (x,) for one argument"
        )
    if not (kwargs is None or isinstance(kwargs, Mapping)):
        raise OptionsError(
            f"{where}: expected the keyword arguments as a dictionary, got "
            f"{type(kwargs).__name__}: write kwargs={{'name': value}}"
        )


def check_same_shape(shapes: Mapping[str, CallShape]) -> None:
    """
    Refuse inputs that differ in more than their content.

    Raises:
        OptionsError: For the first that differs in number, dtype, shape, stride or device.
    """
    first, *others = shapes
    for other in others:
        for before, now in zip_longest(shapes[first].inputs, shapes[other].inputs, fillvalue="-"):
            if before != now:
                raise OptionsError(
                    f"kernelperf.data_independence: {first!r} and {other!r} differ in more than "
                    f"their data: expected {before}, got {now}; give all inputs one shape, dtype "
                    "and stride"
                )


def bounds_of(bound: float | Mapping[float, float]) -> dict[float, float]:
    """
    Return the bound of each percentile; a number is that of P50.

    Raises:
        OptionsError: If one is no fraction above 0, or its percentile none.
    """
    bounds = dict(bound) if isinstance(bound, Mapping) else {50.0: bound}
    for percentile, value in bounds.items():
        if not _is_number(percentile) or not 0 < percentile < 100:
            raise OptionsError(
                "kernelperf.data_independence: bound: expected percentiles between 0 and 100, got "
                f"{percentile!r}"
            )
        if not _is_number(value) or not 0 < value <= 1:
            raise OptionsError(
                "kernelperf.data_independence: bound: expected a fraction above 0 and at most 1, "
                f"such as 0.01 for 1 %, got {value!r}"
            )
    if not bounds:
        raise OptionsError("kernelperf.data_independence: bound: expected at least one, got {}")
    return {float(percentile): float(value) for percentile, value in bounds.items()}


def check_keywords(keywords: Mapping[str, Any], where: str) -> None:
    """
    Refuse marker keywords that would do nothing here.

    Raises:
        OptionsError: For the first of them.
    """
    idle = sorted(_JUDGING.intersection(keywords))
    if idle:
        raise OptionsError(
            f"{where}: {idle[0]}= judges against a target, a baseline or the card, and "
            "a comparison does not: use kernelperf.measure for it"
        )


def least_speedups(
    asked: float | Mapping[str, float] | None, names: Mapping[str, Any], reference: str
) -> dict[str, float]:
    """
    Return the least speed-up that each callable must reach.

    Args:
        asked: A number holds for every callable but the reference, a dictionary for those named.
        names: Of all callables.
        reference: The one that the others are compared with.

    Raises:
        OptionsError: A name that is no callable's, the reference's, or a value that is no ratio.
    """
    if asked is None:
        return {}
    if not isinstance(asked, Mapping):
        asked = {name: asked for name in names if name != reference}
    for name, least in asked.items():
        if name == reference or name not in names:
            others = {other: None for other in names if other != reference}
            raise OptionsError(
                f"kernelperf.compare: min_speedup: expected one of {_known(others)}, got {name!r}"
                + (": that is the reference itself" if name == reference else "")
            )
        if not _is_number(least) or least <= 0:
            raise OptionsError(
                f"kernelperf.compare: min_speedup: expected a ratio above 0 such as 1.1, got "
                f"{least!r}"
            )
    return {name: float(least) for name, least in asked.items()}


def tolerance_of(rtol: float | None, atol: float | None) -> Tolerance | None:
    """
    Return the tolerance that was given; None = each dtype's own.

    Raises:
        OptionsError: A value that is no tolerance.
    """
    from pytest_kernelperf.measure import Tolerance

    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None and not (_is_number(value) and value >= 0):
            raise OptionsError(
                f"kernelperf.compare: {name}: expected a number of at least 0 such as 1e-3, got "
                f"{value!r}"
            )
    if rtol is None and atol is None:
        return None
    return Tolerance(rtol or 0.0, atol or 0.0)


def disagreement(
    outputs: Mapping[str, Any], reference: str, tolerance: Tolerance | None
) -> Problem | None:
    """
    Return what is wrong if an output is too far from the reference's.
    """
    from pytest_kernelperf.measure import across

    for name, output in outputs.items():
        found = across(outputs[reference], output, tolerance).difference
        if found is not None:
            return Problem(
                "WRONG_OUTPUT",
                f"{name!r} does not agree with {reference!r}, so their times say nothing about "
                f"each other: {found.text}. Make them compute the same, widen rtol= or atol=, or "
                "declare them random with deterministic=False",
            )
    return None


def checked(
    comparison: Comparison, outputs: Mapping[str, Any], tolerance: Tolerance | None
) -> Comparison:
    """
    Return the comparison with how far the outputs are apart; INVALID if that is too far.
    """
    from pytest_kernelperf.measure import across

    reference = comparison.reference
    problem = disagreement(outputs, reference, tolerance)
    if problem is not None:
        return replace(comparison, ratios=(), problem=problem)
    apart = {
        name: across(outputs[reference], output, tolerance).max_abs
        for name, output in outputs.items()
        if name != reference
    }
    return replace(
        comparison,
        ratios=tuple(replace(r, max_abs_difference=apart.get(r.name)) for r in comparison.ratios),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _known(names: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in names)
