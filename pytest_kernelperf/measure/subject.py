"""
What is measured: the callable, its arguments, and what is refused before anything runs.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_kernelperf.errors import SubjectError, TimerUnavailableError
from pytest_kernelperf.measure import tensors
from pytest_kernelperf.measure.operands import operands
from pytest_kernelperf.measure.tensors import Path
from pytest_kernelperf.model import Case, Kernel, Plan, Problem, Round


@dataclass(frozen=True)
class Subject:
    """
    A callable with its arguments, and what its author says about it.

    Attributes:
        setup: Called before each round, outside the clock; returns (args, kwargs), or None to keep
            those given here.
        mutates: Arguments, by name or position, that the callable writes.
        check: Gets a timed call's output (the written arguments if that is None); raises
            AssertionError if it is wrong.
        deterministic: False if equal inputs may give different outputs.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    setup: Callable[[], Any] | None = None
    mutates: tuple[str | int, ...] = ()
    check: Callable[[Any], Any] | None = None
    deterministic: bool = True


@dataclass(frozen=True)
class CallShape:
    """
    What identifies a call's inputs.

    Attributes:
        inputs: One line per tensor argument, see `tensors.describe`.
        device: "cpu" or "cuda:<index>".
        footprint_bytes: Bytes that one call can touch through its arguments; 0 = no tensor.
        operands: Dtypes that it multiplies in; None if that can't be seen.
    """

    inputs: tuple[str, ...]
    device: str
    footprint_bytes: int
    operands: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Job:
    """
    One measurement that is wanted.

    Attributes:
        pinned: The stored baseline's plan, reused as it is.
        rounds, samples: Explicit wishes; they win over everything.
        max_time_s: Upper bound for this job, seconds.
        tail: Percentiles above 50 are wanted.
        side_by_side: Several callables take turns; their ratios come from rounds, not samples.
    """

    case: Case
    pinned: Plan | None = None
    rounds: int | None = None
    samples: int | None = None
    max_time_s: float | None = None
    tail: bool = False
    side_by_side: bool = False


@dataclass(frozen=True)
class Taken:
    """
    What a timer brings back: all rounds of one job in this process, or the problem that ended it.
    """

    method: str
    plan: Plan
    rounds: tuple[Round, ...]
    kernels: tuple[Kernel, ...] = ()
    notes: tuple[str, ...] = ()
    problem: Problem | None = None


def arguments_of(subject: Subject) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Return the arguments of the next round, from `setup` if it returns some.

    Raises:
        SubjectError: If `setup` returns something else than (args, kwargs) or None.
    """
    given = subject.setup() if subject.setup else None
    if given is None:
        return tuple(subject.args), dict(subject.kwargs)
    match given:
        case (tuple() | list() as args, Mapping() as kwargs):
            return tuple(args), dict(kwargs)
    # Not `tuple(given[0])`: a tensor falls into its rows, and a row would be measured.
    kinds = type(given).__name__
    if isinstance(given, tuple):
        kinds = f"({', '.join(type(one).__name__ for one in given)})"
    raise SubjectError(
        f"setup of {name_of(subject.fn)} returned {kinds}; expected None or (args, kwargs), a "
        "tuple and a dictionary: return `(q, k), {}`, or nothing"
    )


def inspect_call(subject: Subject) -> CallShape:
    """
    Look at a call without making it (`setup` runs, if there is one).

    Raises:
        SubjectError: The callable is a coroutine or generator function, tensors live on two
            devices, have no elements or no data, or `mutates` names no argument.
        TimerUnavailableError: The tensors' device is not supported.
    """
    refuse_lazy_function(subject.fn)
    args, kwargs = arguments_of(subject)
    written_arguments(subject, args, kwargs)
    _refuse_empty(subject.fn, args, kwargs)
    return CallShape(
        inputs=tensors.describe(args, kwargs),
        device=_device_of(subject.fn, args, kwargs),
        footprint_bytes=tensors.footprint_bytes(args, kwargs),
        operands=operands(subject.fn, args, kwargs),
    )


def name_of(fn: object) -> str:
    """
    Return what messages call a callable.
    """
    if isinstance(fn, functools.partial):
        return f"partial({name_of(fn.func)})"
    # Of what was not written in Python the longer name is C++'s: `_VariableFunctionsClass.add`.
    of_python = isinstance(fn, type) or hasattr(fn, "__code__")
    own = getattr(fn, "__qualname__" if of_python else "__name__", None)
    return str(own or type(fn).__name__)


def refuse_lazy_function(fn: object) -> None:
    """
    Refuse what does its work only after it returned.

    Raises:
        SubjectError: Not callable, or a coroutine or generator function.
    """
    if not callable(fn):
        raise SubjectError(
            f"the first argument must be the function to measure, got {type(fn).__name__}: "
            "pass the function itself and its arguments, kernelperf(fn, x), not its result"
        )
    inner = fn.func if isinstance(fn, functools.partial) else fn
    for candidate in (inner, getattr(inner, "__call__", None)):  # noqa: B004 - not a callable() test
        for is_lazy, kind in (
            (inspect.iscoroutinefunction, "a coroutine function"),
            (inspect.isgeneratorfunction, "a generator function"),
            (inspect.isasyncgenfunction, "an asynchronous generator function"),
        ):
            if is_lazy(candidate):
                raise SubjectError(_lazy_message(fn, f"is {kind}"))


def refuse_lazy_output(fn: object, output: object) -> None:
    """
    Refuse a coroutine or generator that a call returned instead of a result.
    """
    if inspect.iscoroutine(output):
        output.close()  # Or Python warns that it was never awaited.
    elif not (inspect.isgenerator(output) or inspect.isasyncgen(output)):
        return
    raise SubjectError(_lazy_message(fn, f"returned a {type(output).__name__}"))


def _lazy_message(fn: object, what: str) -> str:
    return (
        f"{name_of(fn)} {what}: calling it does no work, so there is nothing to time; "
        "wrap it in a function that runs it to its end and returns the result"
    )


def written_arguments(
    subject: Subject, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Path, ...]:
    """
    Return the ways into `(args, kwargs)` of the arguments that `mutates` names.

    Raises:
        SubjectError: A name or position that no argument of this call has.
    """
    names = argument_names(subject.fn, args, kwargs)
    return tuple(_written_path(subject.fn, one, names) for one in subject.mutates)


def _written_path(fn: object, wanted: str | int, names: Mapping[Path, str]) -> Path:
    for path, name in names.items():
        if (0, wanted) == path if isinstance(wanted, int) else wanted == name:
            return path
    near = difflib.get_close_matches(str(wanted), names.values(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    known = ", ".join(repr(name) for name in names.values()) or "none"
    raise SubjectError(
        f"mutates names {wanted!r}, but this call of {name_of(fn)} has no such argument: "
        f"expected one of {known}, or a position from 0{hint}"
    )


def argument_names(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[Path, str]:
    """
    Return what each argument of a call is called: `{(0, 0): "q", (1, "out"): "out"}`.

    A position without a name (`*rest`, built-in functions) is called "argument 0".
    """
    names: dict[Path, str] = {(0, index): f"argument {index}" for index in range(len(args))}
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [parameter.name for parameter in parameters if parameter.kind in positional]
    for index, name in enumerate(named[: len(args)]):
        names[0, index] = name
    return {**names, **{(1, name): name for name in kwargs}}


def readable(path: Path, names: Mapping[Path, str]) -> str:
    """
    Return a path into `(args, kwargs)` as Python would write it: `cache['k'][0]`.
    """
    return names.get(path[:2], "argument") + steps(path[2:])


def steps(path: Path) -> str:
    """
    Return the steps of a path as subscripts.
    """
    return "".join(f"[{step!r}]" for step in path)


def _refuse_empty(fn: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    names = argument_names(fn, args, kwargs)  # type: ignore[arg-type]
    for path, tensor in tensors.tensors((args, dict(kwargs))):
        name = readable(path, names)
        if tensor.device.type == "meta":
            raise SubjectError(
                f"{name} of {name_of(fn)} is on the 'meta' device and has no data: "
                "expected a tensor on a CPU or CUDA device"
            )
        if tensor.numel() == 0:
            raise SubjectError(
                f"{name} of {name_of(fn)} has no elements (shape {tuple(tensor.shape)}): expected "
                "at least one, since there would be no work to time; pass None or a larger tensor"
            )


def _device_of(fn: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    found: dict[str, str] = {}
    names = argument_names(fn, args, kwargs)  # type: ignore[arg-type]
    for path, tensor in tensors.tensors((args, dict(kwargs))):
        _refuse_device(fn, tensor.device.type)
        # A CPU scalar beside CUDA tensors is a number to torch, not a second device.
        if tensor.dim() or tensor.device.type != "cpu":
            found.setdefault(str(tensor.device), readable(path, names))
    if len(found) > 1:
        where = ", ".join(f"{name} on {device}" for device, name in found.items())
        raise SubjectError(
            f"the tensors of {name_of(fn)} are on {len(found)} devices ({where}): expected one, "
            "since a timer follows one device; move them with .to()"
        )
    if found:
        return next(iter(found))
    hidden = {str(t.device) for t in _captured_tensors(fn) if t.device.type != "cpu"}
    for device in sorted(hidden):
        _refuse_device(fn, device.split(":")[0])
        return device
    return "cpu"


def _refuse_device(fn: object, kind: str) -> None:
    if kind == "cpu":
        return
    torch = sys.modules["torch"]
    if kind == "cuda" and torch.version.hip is None:
        return
    device = "ROCm" if kind == "cuda" else kind
    raise TimerUnavailableError(
        f"{name_of(fn)} has tensors on {device}, which kernelperf can't time: expected 'cpu' or an "
        "NVIDIA GPU ('cuda'); move the tensors there, or leave this test unmeasured"
    )


def _captured_tensors(fn: object) -> Iterator[Any]:
    """
    Yield the tensors that a callable brings along: bound arguments, closures, module parameters.
    """
    if isinstance(fn, functools.partial):
        yield from (tensor for _, tensor in tensors.tensors((fn.args, fn.keywords)))
        yield from _captured_tensors(fn.func)
        return
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            held = cell.cell_contents
        except ValueError:  # A variable that was not assigned yet.
            continue
        yield from _tensors_in(held)
    code, scope = getattr(fn, "__code__", None), getattr(fn, "__globals__", {})
    for name in getattr(code, "co_names", ()):
        yield from _tensors_in(scope.get(name))
    yield from _tensors_in(getattr(fn, "__self__", fn))


def _tensors_in(held: object) -> Iterator[Any]:
    yield from (tensor for _, tensor in tensors.tensors(held))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(held, torch.nn.Module):
        yield from held.parameters()
        yield from held.buffers()
