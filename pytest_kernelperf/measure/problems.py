"""
The reasons why a measurement is INVALID, each with its cure: one function per stable code.
"""

from __future__ import annotations

from typing import Any

from pytest_kernelperf.measure.subject import name_of
from pytest_kernelperf.model import Problem

_RANDOM = "if it is random on purpose say deterministic=False"


def wrong_output(fn: Any, where: str, text: str) -> Problem:
    """
    A timed call's result differs from the first untimed one's.

    Args:
        fn: The measured callable.
        where: "the output", or the name of a written argument.
        text: What differs, from `agreement.Difference`.
    """
    return Problem(
        "WRONG_OUTPUT",
        f"a timed call of {name_of(fn)} gave other contents of {where} than the first untimed call "
        f"({text}); expected agreement within the dtype's tolerance: look for state kept between "
        f"calls, or a race; {_RANDOM}",
    )


def refused_output(fn: Any, check: Any, error: AssertionError) -> Problem:
    """
    The author's own check refused an output.
    """
    said = str(error).strip() or "AssertionError without a message"
    return Problem(
        "WRONG_OUTPUT",
        f"check={name_of(check)} refused the output of a call of {name_of(fn)}: {said}",
    )


def not_deterministic(fn: Any, text: str) -> Problem:
    """
    Two untimed calls on equal inputs disagree.
    """
    return Problem(
        "NOT_DETERMINISTIC",
        f"two untimed calls of {name_of(fn)} on equal inputs disagree ({text}); expected the same "
        f"result: {_RANDOM}, or give check=fn that raises AssertionError if an output is wrong",
    )


def poison_left(fn: Any, where: str, text: str) -> Problem:
    """
    What was poisoned before a call is still there after it.
    """
    return Problem(
        "POISON_LEFT",
        f"a call of {name_of(fn)} did not write all of {where}: what was poisoned before the call "
        f"is still there ({text}); expected each call to write every element anew: look for a "
        "cached result, a skipped tail, or work that goes on after the call returned",
    )


def undeclared_mutation(fn: Any, name: str, hint: str) -> Problem:
    """
    A call changed an argument that `mutates` does not name.

    Args:
        fn: The measured callable.
        name: The argument, as a reader would write it.
        hint: What to write into `mutates`.
    """
    return Problem(
        "UNDECLARED_MUTATION",
        f"{name_of(fn)} changed its argument {name}; expected inputs to stay as they are: if it is "
        f"meant to be written say mutates=({hint},)",
    )


def input_resized(fn: Any, name: str) -> Problem:
    """
    A call freed, resized or replaced the memory of an argument.
    """
    return Problem(
        "INPUT_RESIZED",
        f"{name_of(fn)} freed, resized or replaced the memory of {name}; expected arguments to "
        "stay where they are, since the next call gets them again: work on a copy inside the "
        "function",
    )
