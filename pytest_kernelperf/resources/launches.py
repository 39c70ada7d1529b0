"""
Sees which Triton kernels a call launches, and as what they were compiled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from pytest_kernelperf.errors import NoValueError, ResourcesUnavailableError

#: A loop that launches more kernels than this per call is not followed further.
_MAX_LAUNCHES = 256
#: Of a compiler's message; the place and the reason come last.
_MOST_LINES = 4


@dataclass(frozen=True)
class Launch:
    """
    One launch that passed through Triton.

    Attributes:
        compiled: Triton's `CompiledKernel`.
        grid: Blocks along x, y, z.
        constants: Compile-time constants by name.
        log: What ptxas said, if it ran just now and was listened to.
        tuned: Names of constants that an autotuner chose, or that follow from its choice.
    """

    compiled: Any
    grid: tuple[int, ...]
    constants: dict[str, Any]
    log: str = ""
    tuned: tuple[str, ...] = ()


@contextmanager
def watch_launches(*, compiling: bool = False) -> Iterator[list[Launch]]:
    """
    Collect the launches of Triton kernels in the block, in order.

    Triton's launch hooks tell neither grid nor compiled kernel, so `JITFunction.run` is wrapped;
    Gluon, autotuned and heuristic kernels all end there. The wrapper takes itself off as soon as
    launches repeat, long before anything is timed.

    Args:
        compiling: Nothing is timed: watch to the end, and name the kernel that does not compile.

    Raises:
        NoValueError: If `compiling` and a grid depends on what is in a tensor.
        ResourcesUnavailableError: If `compiling` and a kernel does not compile, or Triton
            interprets here.
    """
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    if compiling:
        _refuse_interpreter()
    seen: list[Launch] = []
    repeats: Counter[Any] = Counter()
    original, tune = JITFunction.run, Autotuner.run
    tuned: dict[Any, tuple[str, ...]] = {}

    def run_tuned(self: Any, *args: Any, **kwargs: Any) -> Any:
        tuned[self.base_fn] = _chosen_by(self)
        return tune(self, *args, **kwargs)

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        log = ""
        if compiling:
            compiled, log = _overheard(original, self, *args, grid=grid, warmup=warmup, **kwargs)
        else:
            compiled = original(self, *args, grid=grid, warmup=warmup, **kwargs)
        if warmup or not hasattr(compiled, "asm"):
            return compiled
        named = {**dict(zip(self.arg_names, args, strict=False)), **kwargs}
        constants = _constants(self, compiled, named)
        launch = Launch(compiled, _sizes(grid, named), constants, log, tuned.get(self.fn, ()))
        seen.append(launch)
        repeats[compiled.hash, launch.grid] += 1
        if not compiling and (max(repeats.values()) > 2 or len(seen) >= _MAX_LAUNCHES):
            stop()
        return compiled

    def stop() -> None:
        JITFunction.run, Autotuner.run = original, tune
        if not compiling:
            _show_watcher(False)

    JITFunction.run, Autotuner.run = run, run_tuned
    if not compiling:
        _show_watcher(True)
    try:
        yield seen
    finally:
        stop()


def _refuse_interpreter() -> None:
    """
    Raise where Triton interprets: each of its own functions, too, was made for one or the other.

    Raises:
        ResourcesUnavailableError: If nothing can be compiled in this process.
    """
    from triton import knobs, language
    from triton.runtime.jit import JITFunction

    if knobs.runtime.interpret or not isinstance(language.max, JITFunction):
        raise ResourcesUnavailableError(
            "Triton's interpreter was chosen in this process (TRITON_INTERPRET), so no kernel in "
            "it can be compiled: unset it, and run tests that need the interpreter apart"
        )


def _overheard(run: Any, function: Any, *args: Any, **kwargs: Any) -> tuple[Any, str]:
    """
    Return what a launch returned, and what ptxas said if it ran: asking it again takes a second.

    Raises:
        NoValueError: If its grid depends on what is in a tensor.
        ResourcesUnavailableError: If the kernel does not compile.
    """
    from triton import knobs

    heard = StringIO()
    with knobs.nvidia.scope(), redirect_stdout(heard):
        knobs.nvidia.dump_ptxas_log = True
        try:
            return run(function, *args, **kwargs), heard.getvalue()
        except NoValueError:
            raise  # Asked for by the grid: the kernel itself was compiled.
        except Exception as error:
            raise ResourcesUnavailableError(_why(function, error)) from error


def _show_watcher(is_there: bool) -> None:
    """
    Let Triton know that launches are watched: programs with a launch path of their own step aside.
    """
    try:
        from triton import knobs
    except ImportError:  # Before Triton 3.4.
        return
    hooks: Any = getattr(knobs.runtime, "launch_enter_hook", None)
    if hasattr(hooks, "add") and is_there:
        hooks.add(_watcher)
    elif hasattr(hooks, "calls") and _watcher in hooks.calls:
        hooks.remove(_watcher)


def _watcher(metadata: Any) -> None:
    """
    Do nothing: the wrapper of `watch_launches` sees more than a hook is told.
    """


def _why(function: Any, error: Exception) -> str:
    """
    Return which kernel could not be compiled and what the compiler said.
    """
    name = getattr(function, "__name__", str(function))
    if isinstance(error, TypeError) and "specialize" in str(error):
        return (
            f"kernel {name}: the signature can't be inferred: {error}; pass tensors, numbers, "
            "tuples of them or tensor descriptors, and mark everything else tl.constexpr"
        )
    lines = [line.rstrip() for line in str(_innermost(error)).splitlines() if line.strip()]
    return f"kernel {name}: {' | '.join(lines[-_MOST_LINES:]) or type(error).__name__}"


def _innermost(error: BaseException) -> BaseException:
    """
    Return the compiler's error in the function that is wrong; those around it only quote a call.
    """
    from triton.compiler.errors import CompilationError

    while isinstance(error.__cause__, CompilationError):
        error = error.__cause__
    return error


def _sizes(grid: Any, named: dict[str, Any]) -> tuple[int, ...]:
    sizes = grid(named) if callable(grid) else grid
    return tuple(int(size) for size in sizes)


def _chosen_by(autotuner: Any) -> tuple[str, ...]:
    """
    Return the constants that differ between an autotuner's configurations, or derive from those.
    """
    choices = [config.all_kwargs() for config in autotuner.configs]
    names = {name for choice in choices for name in choice}
    chosen = {name for name in names if len({str(one.get(name)) for one in choices}) > 1}
    derived = getattr(autotuner.fn, "values", {})  # Of @triton.heuristics below it.
    return tuple(sorted({*chosen, *derived})) if chosen else ()


def _constants(function: Any, compiled: Any, named: dict[str, Any]) -> dict[str, Any]:
    declared = [one.name for one in function.params if one.is_constexpr]
    defaults = {one.name: one.default for one in function.params if one.has_default}
    found = {name: named.get(name, defaults.get(name)) for name in declared}
    options = ("num_warps", "num_stages", "num_ctas", "maxnreg")
    found.update({name: getattr(compiled.metadata, name, None) for name in options})
    return {name: value for name, value in found.items() if value is not None}
