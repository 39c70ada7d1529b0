"""
Guards that what is timed is the work: outputs agree, inputs stay, nothing is left unwritten.

The user's own tensors are never given to the callable while measuring: they are the source that all
copies are made from and compared with.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_kernelperf.errors import SubjectError
from pytest_kernelperf.measure import agreement, poison, problems, tensors
from pytest_kernelperf.measure.placement import Placement
from pytest_kernelperf.measure.plan import refuse_too_large
from pytest_kernelperf.measure.subject import (
    CallShape,
    Subject,
    argument_names,
    arguments_of,
    inspect_call,
    name_of,
    readable,
    refuse_lazy_output,
    steps,
    written_arguments,
)
from pytest_kernelperf.measure.tensors import Path
from pytest_kernelperf.model import Checks, Problem

if TYPE_CHECKING:
    import torch

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
Leaves: TypeAlias = Mapping[Path, "torch.Tensor"]


class Guard:
    """
    What is known about one subject's right behaviour, and the checks against it.

    Use: `learn()` once, then per round `begin_round()`, per call `restore()`, and on timed calls
    `check_output()` and `check_inputs()`.

    Attributes:
        shape: What `inspect_call` said.
        rewrites: A `mutates` argument is read and written, so each call needs it restored.
        notes: Sentences that a reader of the measurement must see.
        output: A copy of the newest output that passed its check.
    """

    def __init__(self, subject: Subject, shape: CallShape | None = None) -> None:
        self.subject = subject
        self.shape = shape or inspect_call(subject)
        self.rewrites = False
        self.notes: tuple[str, ...] = ()
        self.output: Any = None
        self._source: Call = ((), {})
        self._names: Mapping[Path, str] = {}
        self._written: tuple[Path, ...] = ()  # Leaves that the callable may write.
        self._exempt: frozenset[Path] = frozenset()  # Leaves whose memory those share.
        self._read_write: frozenset[Path] = frozenset()
        self._expected: Any = None
        self._contents: dict[Path, torch.Tensor] = {}  # Of the written leaves, after a call.
        self._latest: dict[Path, torch.Tensor] = {}
        self._aliases: dict[Path, Path] = {}  # Output leaf -> input leaf in the same memory.
        self._placement = Placement()
        self._counts = Checks()

    def learn(self) -> Problem | None:
        """
        Make untimed calls to learn the output, whether it repeats, and what `mutates` means.

        Returns:
            What makes the subject unfit to be measured, or None.

        Raises:
            SubjectError: The output is nothing that could be checked.
        """
        self._adopt(arguments_of(self.subject))
        self._refuse_large()
        problem = self._learn_output()
        if problem or not self.subject.deterministic:
            self._read_write = frozenset(self._written)
        else:
            problem = self._learn_repeats()
        if not (problem or self._read_write):
            self._read_write = frozenset(filter(self._is_read, self._written))
        self.rewrites = bool(self._read_write)
        self._counts = Checks()
        return problem

    def begin_round(self) -> Call:
        """
        Run `setup`, if there is one, and return the arguments to copy for this round.

        Never call the subject on these. After a setup one untimed call learns the output again:
        it may have returned other arguments, or written other contents into the same ones.
        """
        if self.subject.setup is not None:
            counts = self._counts
            self._adopt(arguments_of(self.subject))
            problem = self._learn_output()
            if problem:
                raise SubjectError(f"with the arguments from setup, {problem.message}")
            self._counts = counts
        return self._source

    def restore(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """
        Make a set of copied arguments ready for a call: outside the clock, before each call.

        Arguments that are read and written get their first contents again, those only written get
        poison, and where each tensor is gets remembered.
        """
        leaves = dict(tensors.plain_tensors((args, dict(kwargs))))
        self._placement.remember(leaves.values())
        if self._written:
            source = dict(tensors.plain_tensors(self._source))
            for path in self._written:
                self._refill(leaves[path], source[path], path in self._read_write)

    def poison(self, output: Any) -> None:
        """
        Overwrite an output that a coming call should write again, except where it is an input.
        """
        for path, tensor in tensors.plain_tensors(output):
            if path not in self._aliases and poison.write(tensor):
                self._count(poisoned=1)

    def check_output(self, output: Any) -> Problem | None:
        """
        Check a timed call's output; remember a copy of it if it is right.
        """
        refuse_lazy_output(self.subject.fn, output)
        problem = self._run_check(output) if self.subject.check else self._agree(output)
        if problem is None:
            self.output = tensors.copy_output(output)
        return problem

    def check_inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Problem | None:
        """
        Check a call's arguments afterwards: in place, and unchanged or written as they should be.
        """
        self._count(inputs_checked=1)
        leaves = dict(tensors.plain_tensors((args, dict(kwargs))))
        source = dict(tensors.plain_tensors(self._source))
        problem = self._check_layouts(leaves, source) or self._check_unchanged(leaves, source)
        if problem is None:
            problem = self._check_written({path: leaves[path] for path in self._written})
        if problem is None:
            self._latest = {path: leaves[path].detach().clone() for path in self._written}
        return problem

    def result(self) -> Checks:
        """
        Return what was checked since this was last asked.
        """
        counts, self._counts = self._counts, Checks()
        return counts

    def hand_over(self) -> Any:
        """
        Return the newest checked output, and fill the user's `mutates` arguments as one call would.

        Only after the last round: the user's tensors are what all copies are made from.
        """
        source = dict(tensors.plain_tensors(self._source))
        for path, contents in self._latest.items():
            tensors.overwrite(source[path], contents)
        own = {path: source[at] for path, at in self._aliases.items() if at in self._latest}
        swap = {
            id(leaf): own[path]
            for path, leaf in tensors.walk(self.output)
            # A part of a written argument stays the copy that it is.
            if path in own and leaf.shape == own[path].shape and leaf.dtype == own[path].dtype
        }
        return tensors.replace_leaves(self.output, lambda leaf: swap.get(id(leaf), leaf))

    def _adopt(self, source: Call) -> None:
        """
        Take arguments as the source of all copies, and find what `mutates` means in them.
        """
        self._source = source
        self._names = argument_names(self.subject.fn, *source)
        marked = written_arguments(self.subject, *source)
        leaves = dict(tensors.plain_tensors(source))
        self._written = tuple(path for path in leaves if path[:2] in marked)
        self._exempt = frozenset(
            path
            for path, tensor in leaves.items()
            if path not in self._written
            and any(tensors.overlap(tensor, leaves[other]) for other in self._written)
        )

    def _refuse_large(self) -> None:
        """
        Refuse arguments whose first copy would already run out of device memory.
        """
        if self.shape.device != "cpu":
            cuda, device = sys.modules["torch"].cuda, self.shape.device
            kept = cuda.memory_reserved(device) - cuda.memory_allocated(device)
            free_bytes = cuda.mem_get_info(device)[0] + kept
            refuse_too_large(1, tensors.copy_bytes(*self._source), free_bytes, self.subject.fn)

    def _call(self, poisoned: Path | None = None) -> tuple[Any, Call]:
        """
        Call the subject once, unmeasured, on a fresh copy of its arguments.
        """
        args, kwargs = tensors.copy_call(*self._source)
        if poisoned is not None:
            poison.write(dict(tensors.plain_tensors((args, kwargs)))[poisoned])
        self._placement.remember(tensor for _, tensor in tensors.plain_tensors((args, kwargs)))
        output = self.subject.fn(*args, **kwargs)
        self._wait_for(output)
        return output, (args, kwargs)

    def _wait_for(self, output: Any) -> None:
        """
        Wait for all work of an untimed call, also on streams that nobody joined.
        """
        devices = {str(t.device) for _, t in tensors.tensors(output) if t.device.type != "cpu"}
        if devices and self.shape.device == "cpu":
            raise SubjectError(
                f"{name_of(self.subject.fn)} returned a tensor on {min(devices)} but got none: "
                "expected a tensor on the GPU as argument, so that the right timer is chosen; pass "
                "it, kernelperf(fn, x)"
            )
        if self.shape.device != "cpu":
            sys.modules["torch"].cuda.synchronize(self.shape.device)

    def _learn_output(self) -> Problem | None:
        output, call = self._call()
        refuse_lazy_output(self.subject.fn, output)
        leaves = dict(tensors.plain_tensors(call))
        problem = self._check_layouts(leaves, dict(tensors.plain_tensors(self._source)))
        if problem:
            return problem
        self._refuse_unchecked(output)
        self._aliases = tensors.aliases(output, leaves)
        self._expected = tensors.copy_output(output)
        self._contents = {path: leaves[path].detach().clone() for path in self._written}
        self.notes = self._find_notes()
        return self.check_inputs(*call) or self.check_output(output)

    def _learn_repeats(self) -> Problem | None:
        output, (args, kwargs) = self._call()
        leaves = dict(tensors.plain_tensors((args, kwargs)))
        text = None if self.subject.check else agreement.difference(self._expected, output)
        for path in self._written:
            text = text or agreement.difference(self._contents[path], leaves[path])
        return problems.not_deterministic(self.subject.fn, text) if text else None

    def _is_read(self, path: Path) -> bool:
        """
        Find out whether a written argument is also read, by poisoning it before a call.
        """
        if not poison.is_safe(self._contents[path]):
            return True
        try:
            output, call = self._call(poisoned=path)
        except Exception:  # The callable looked at the poison: it reads this argument.
            return True
        leaves = dict(tensors.plain_tensors(call))
        pairs = [(self._contents[other], leaves[other]) for other in self._written]
        return any(
            agreement.difference(one, other) for one, other in [(self._expected, output), *pairs]
        )

    def _refuse_unchecked(self, output: Any) -> None:
        """
        Refuse an output from which nobody could tell that work was done.
        """
        if self._written or self.subject.check:
            return
        if any(agreement.is_checkable(leaf) for _, leaf in tensors.walk(output)):
            return
        raise SubjectError(
            f"{name_of(self.subject.fn)} returned {type(output).__name__}, no tensor or number: "
            "expected something that proves it did its work. Return its output, name the arguments "
            "it writes with mutates=('out',), or give check=fn"
        )

    def _find_notes(self) -> tuple[str, ...]:
        notes = []
        for path, tensor in tensors.tensors(self._source):
            if not tensors.is_plain(tensor):
                kind = f"{type(tensor).__name__}, {tensor.layout}"
                name = f"{readable(path, self._names)} ({kind})"
                notes.append(f"{name} can't be copied: every call gets the same one")
        for at in self._aliases.values():
            if at not in self._written:
                name = readable(at, self._names)
                notes.append(f"the output shares memory with {name}: compared, but not poisoned")
        return tuple(dict.fromkeys(notes))

    def _refill(self, tensor: torch.Tensor, source: torch.Tensor, read: bool) -> None:
        if read:
            tensors.overwrite(tensor, source)
        elif poison.write(tensor):
            self._count(poisoned=1)

    def _agree(self, output: Any) -> Problem | None:
        if not self.subject.deterministic:
            return self._find_poison(output)
        found = agreement.compare(self._expected, output)
        self._count(outputs_checked=1, max_abs=found.max_abs)
        if found.difference is None:
            return None
        if not found.difference.poison:
            return problems.wrong_output(self.subject.fn, "the output", found.difference.text)
        self._unpoison(output)
        return problems.poison_left(self.subject.fn, "the output", found.difference.text)

    def _find_poison(self, output: Any) -> Problem | None:
        """
        Look for poison in an output that nothing can be compared with.
        """
        for path, tensor in tensors.plain_tensors(output):
            count = poison.count(tensor)
            if count:
                self._unpoison(output)
                where = f"output{steps(path)}"
                text = f"{count} of {tensor.numel()} elements"
                return problems.poison_left(self.subject.fn, where, text)
        return None

    def _run_check(self, output: Any) -> Problem | None:
        if output is None and self._written:
            return None  # The written arguments are its output: check_inputs hands them over.
        return self._find_poison(output) or self._checked(output)

    def _checked(self, output: Any) -> Problem | None:
        check = self.subject.check
        assert check is not None
        self._count(outputs_checked=1)
        try:
            check(output)
        except AssertionError as error:
            return problems.refused_output(self.subject.fn, check, error)
        return None

    def _check_layouts(self, leaves: Leaves, source: Leaves) -> Problem | None:
        for path in source:
            tensor = leaves.get(path)
            if tensor is None or not self._placement.holds(tensor):
                return problems.input_resized(self.subject.fn, readable(path, self._names))
        return None

    def _check_unchanged(self, leaves: Leaves, source: Leaves) -> Problem | None:
        for path, original in source.items():
            if path in self._written or path in self._exempt:
                continue
            if not tensors.same_bytes(leaves[path], original):
                name = self._names.get(path[:2], "")
                hint = repr(name) if name.isidentifier() else str(path[1])
                where = readable(path, self._names)
                return problems.undeclared_mutation(self.subject.fn, where, hint)
        return None

    def _check_written(self, written: Leaves) -> Problem | None:
        for path, tensor in written.items() if self.subject.deterministic else ():
            found = agreement.compare(self._contents[path], tensor)
            self._count(max_abs=found.max_abs)
            if found.difference:
                build = problems.poison_left if found.difference.poison else problems.wrong_output
                where = readable(path, self._names)
                return build(self.subject.fn, where, found.difference.text)
        if self.subject.check and self._expected is None and written:
            values = tuple(written.values())
            return self._checked(values[0] if len(values) == 1 else values)
        return None

    def _unpoison(self, output: Any) -> None:
        """
        Give a cached output its contents back: it may live on in the user's module.
        """
        expected = dict(tensors.plain_tensors(self._expected))
        for path, tensor in tensors.plain_tensors(output):
            first = expected.get(path)
            if path not in self._aliases and first is not None and first.shape == tensor.shape:
                tensors.overwrite(tensor, first)

    def _count(
        self,
        outputs_checked: int = 0,
        inputs_checked: int = 0,
        poisoned: int = 0,
        max_abs: float | None = None,
    ) -> None:
        old = self._counts
        seen = [value for value in (old.max_abs_difference, max_abs) if value is not None]
        self._counts = Checks(
            outputs_checked=old.outputs_checked + outputs_checked,
            max_abs_difference=max(seen, default=None),
            inputs_checked=old.inputs_checked + inputs_checked,
            poisoned=old.poisoned + poisoned,
        )
