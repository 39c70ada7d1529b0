"""
The exceptions of pytest_kernelperf, each named after the state it reports.

Messages follow one pattern: what was wrong, what was expected, what was got, what to do.
"""

from __future__ import annotations


class KernelPerfError(Exception):
    """
    Base of everything that pytest_kernelperf raises on purpose.
    """


class OptionsError(KernelPerfError, ValueError):
    """
    A marker keyword, ini key or command line value is not valid.
    """


class MisreadPathError(OptionsError):
    """
    pytest itself has taken an option's path for a place of tests, and another ini file for ours.
    """


class NotMeasuredError(KernelPerfError):
    """
    A number was asked for that this run did not measure.
    """


class SubjectError(KernelPerfError):
    """
    The callable or its arguments can't be measured as they are.
    """


class TimerUnavailableError(KernelPerfError):
    """
    The requested timer can't work on this machine or for this callable.
    """


class ResourcesUnavailableError(KernelPerfError):
    """
    A kernel could not be compiled without a GPU; the message says which and why.
    """


class FiguresUnreadableError(KernelPerfError):
    """
    A kernel was compiled, and what the compiler made of it can't be read; the message says why.
    """


class NoValueError(KernelPerfError):
    """
    A value was asked of a tensor that stands in for one on a GPU: it has a shape, and no content.
    """


class BaselineFormatError(KernelPerfError):
    """
    A baseline or run file can't be read: damaged, not JSON, or of the wrong shape.
    """


class BaselineVersionError(BaselineFormatError):
    """
    A baseline or run file was written by a newer version of this program.
    """


class BaselineWriteError(KernelPerfError):
    """
    A baseline or run file can't be written; what was there before is untouched.
    """


class CeilingsError(KernelPerfError):
    """
    The file of this user's measured ceilings can't be read.
    """


class RevisionError(KernelPerfError):
    """
    The revision to compare with can't be found, checked out, built or imported.
    """


class KernelPerfFailure(KernelPerfError, AssertionError):  # noqa: N818 - a failed test, no error
    """
    A verdict that fails the test: the kernel is slower, misses its target, or is wrong.
    """
