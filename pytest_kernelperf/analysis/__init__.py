"""
Turns samples into intervals and one verdict; pure: no torch, clock, files, pytest, or chance.
"""

from pytest_kernelperf.analysis.against import judge_against
from pytest_kernelperf.analysis.cause import explain, explained
from pytest_kernelperf.analysis.comparison import compare, judge_again
from pytest_kernelperf.analysis.independence import contrast_again, contrast_inputs
from pytest_kernelperf.analysis.intervals import interval_us
from pytest_kernelperf.analysis.looks import LOOKS, wants_more
from pytest_kernelperf.analysis.margins import margins
from pytest_kernelperf.analysis.noise import Noise, noise_from
from pytest_kernelperf.analysis.percentiles import percentile_us
from pytest_kernelperf.analysis.reasons import Reason
from pytest_kernelperf.analysis.resources import judge_resources, judge_unfollowed, judge_unread
from pytest_kernelperf.analysis.roofline import physics_problem
from pytest_kernelperf.analysis.verdicts import judge

__all__ = [
    "LOOKS",
    "Noise",
    "Reason",
    "compare",
    "contrast_again",
    "contrast_inputs",
    "explain",
    "explained",
    "interval_us",
    "judge",
    "judge_again",
    "judge_against",
    "judge_resources",
    "judge_unfollowed",
    "judge_unread",
    "margins",
    "noise_from",
    "percentile_us",
    "physics_problem",
    "wants_more",
]
