"""
Takes the place of the bench where there is no GPU: compiles a test's kernels and has them judged.

The test's body runs on a machine of pretended GPUs up to where it needs a value; what it measures
is called once per target.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_kernelperf.bench import baselines_root
from pytest_kernelperf.compiled import judged, read_launches, stored_cases, stored_kernels
from pytest_kernelperf.errors import KernelPerfError, NoValueError
from pytest_kernelperf.keywords import TARGETS
from pytest_kernelperf.model import Case, Compiled, Kernel, ResourceLimits
from pytest_kernelperf.resources.machine import Machine

if TYPE_CHECKING:
    from pytest_kernelperf.bench import Place
    from pytest_kernelperf.measure import Subject
    from pytest_kernelperf.model import Comparison, Independence, Recorded
    from pytest_kernelperf.options import Options
    from pytest_kernelperf.settings import Settings


def is_needed(options: Options, settings: Settings) -> bool:
    """
    Return whether a test asks what the compiler makes of it, and no GPU is there or to be used.
    """
    if options.resources is None:
        return False
    if settings.compile_only or missing_compiler() == "torch":
        return True
    import torch

    return not torch.cuda.is_available()


def missing_compiler() -> str:
    """
    Return the first package that compiling takes and that is not installed; "" if none is.
    """
    for name in ("torch", "triton"):
        if importlib.util.find_spec(name) is None:
            return name
    # Where Triton says what it compiles with; an older one measures, and nothing more.
    return "" if importlib.util.find_spec("triton.knobs") else "triton>=3.4"


def is_for_want_of_a_value(error: BaseException) -> bool:
    """
    Return whether an error came of a value that a stand-in does not have, at first hand or later.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, NoValueError):
        found = found.__cause__ or found.__context__
    return found is not None


def targets_for(options: Options) -> tuple[str, ...]:
    """
    Return what a test's kernels are compiled for: as named, or all that `requires` lets run.
    """
    limits = options.resources or ResourceLimits()
    if limits.targets:
        return limits.targets
    needed = [_number(name) for name in options.requires if name.startswith("sm_")]
    return tuple(target for target in TARGETS if _number(target) >= max(needed, default=0))


class GpulessBench:
    """
    Has the `measure` of a bench; instead of times it brings what was compiled.

    Args:
        settings: What the run was asked to do.
        progress: Gets a short text now and then.
    """

    def __init__(self, settings: Settings, progress: Callable[[str], None]) -> None:
        self.settings = settings
        self.machine = Machine()
        self._progress = progress
        self._compiled: list[Compiled] = []

    def measure(
        self, place: Place, subject: Subject, options: Options, *, per: float, name: str
    ) -> tuple[Any, tuple[Recorded, ...]]:
        """
        Compile what a callable launches, for each target of its options, and judge it.

        Returns:
            The callable's output, a stand-in without content, and no records.
        """
        outputs, stopped = [], None
        root = baselines_root(self.settings, place.path)
        limits = options.resources or ResourceLimits()
        for target in reversed(targets_for(options)):
            self._progress(f"{place.test} {name}".strip() + f": compiling for {target}")
            case = _case(place, name, target)
            stored = stored_kernels(case, root)
            try:
                output, compiled = self._compile(subject, case, stored)
            except Exception as error:
                if not is_for_want_of_a_value(error):
                    raise
                stopped = error
                self._compiled.append(_unfollowed(case, f"within the measured call, {error}"))
                continue
            outputs.append(output)
            self._compiled.append(judged(compiled, limits, stored))
        self._progress("")
        if stopped and not any(one.kernels or one.unread for one in self._compiled):
            raise stopped
        if all(one.failure for one in self._compiled):
            raise NoValueError("no kernel was compiled, so there is no output to go on with")
        # A target that does not compile has none.
        return next((one for one in reversed(outputs) if one is not None), None), ()

    def compare(self, *args: Any, **kwargs: Any) -> tuple[Mapping[str, Any], Comparison]:
        """
        Refuse: nothing is timed here.

        Raises:
            NoValueError: Always.
        """
        raise NoValueError("kernelperf.compare compares times, and without a GPU there are none")

    def contrast_inputs(self, *args: Any, **kwargs: Any) -> tuple[Mapping[str, Any], Independence]:
        """
        Refuse, as `compare` does.

        Raises:
            NoValueError: Always.
        """
        raise NoValueError("data_independence compares times, and without a GPU there are none")

    def unfollowed(
        self, place: Place, options: Options, error: BaseException, compiled: Collection[Compiled]
    ) -> list[Compiled]:
        """
        Return what there is to say of a test that was followed no further than to a value.

        Args:
            place: The test.
            options: Of its marks.
            error: What it ended with.
            compiled: What was compiled before; then only what is stored and was not reached counts.
        """
        cases = [_case(place, "", target) for target in targets_for(options)]
        if not compiled:
            return [_unfollowed(cases[-1], str(error))]
        root = baselines_root(self.settings, place.path)
        reached = {one.case for one in compiled}
        stored = [each for case in cases for each in stored_cases(case, root)]
        return [_unfollowed(case, str(error)) for case in stored if case not in reached]

    def take_compiled(self) -> tuple[Compiled, ...]:
        """
        Return what was compiled since this was last asked.
        """
        taken, self._compiled = tuple(self._compiled), []
        return taken

    def _compile(
        self, subject: Subject, case: Case, stored: Sequence[Kernel] | None
    ) -> tuple[Any, Compiled]:
        from pytest_kernelperf.measure.subject import arguments_of
        from pytest_kernelperf.resources import watch_launches
        from pytest_kernelperf.resources.tensors import moved
        from pytest_kernelperf.resources.tuning import tuned_like

        target = case.l2
        with self.machine.on(target) as index, tuned_like(stored or ()) as notes:
            args, kwargs = moved(arguments_of(subject), index)
            self.machine.opaque.clear()
            try:
                with watch_launches(compiling=True) as launches:
                    output = subject.fn(*args, **kwargs)
            except NoValueError:
                raise
            except KernelPerfError as error:
                return None, Compiled(case, (), f"Does not compile for {target}: {error}")
        kernels, unread = read_launches(launches)
        failure = "" if launches else _no_kernel(target, self.machine.opaque)
        return output, Compiled(case, kernels, failure, notes=tuple(notes), unread=unread)


def _case(place: Place, name: str, target: str) -> Case:
    return Case(place.file, place.test, name, "compile", target, "-")


def _unfollowed(case: Case, why: str) -> Compiled:
    from pytest_kernelperf.analysis import judge_unfollowed

    return Compiled(case, (), verdict=judge_unfollowed(case, why))


def _no_kernel(target: str, opaque: Collection[str]) -> str:
    through = (
        f" It went through {', '.join(sorted(opaque))}, which is not registered from Python and "
        "can't be looked into without a GPU: measure the function below it."
        if opaque
        else ""
    )
    return (
        f"On {target} the call launched no Triton kernel, so there is nothing to compile: take "
        "resources= off this test, or name the targets that have one, "
        f"resources={{'targets': ('sm_90',)}}.{through}"
    )


def _number(target: str) -> int:
    return int(target.removeprefix("sm_"))
