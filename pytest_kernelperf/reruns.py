"""
Finds what would run failed tests again, and names the command that runs one test again.
"""

from __future__ import annotations

import os
import shlex

import pytest

#: Options that say how a test is measured and judged, or with what it is compared.
_REPEATED = (
    *("strict", "compile-only", "against", "baselines"),
    *("timer", "rounds", "max-time", "processes"),
)


def rerun_command(config: pytest.Config, nodeid: str) -> str:
    """
    Return the command that measures one test of this run again, as this run did.
    """
    file, *names = nodeid.split("::", 1)
    path = os.path.relpath(config.rootpath / file, config.invocation_params.dir)
    words = [shlex.quote("::".join([path, *names])), "--kernelperf"]
    for name in _REPEATED:
        given = config.getoption(f"kernelperf_{name.replace('-', '_')}")
        if given:
            value = "" if given is True else f"={shlex.quote(given)}"
            words.append(f"--kernelperf-{name}{value}")
    return f"python -m pytest {' '.join(words)}"


def rerun_warning(why: str) -> str:
    """
    Return the warning of a run in which failed tests are run again.
    """
    return f"warning: {why}: one lucky rerun is not a pass, so a slow verdict may be missed"


def reruns_configured(config: pytest.Config) -> str | None:
    """
    Return a warning where failed tests are run again, or None.
    """
    for option in ("reruns", "force_flaky", "max_runs"):
        value = config.getoption(option, default=None)
        if value:
            return rerun_warning(f"reruns are configured (--{option.replace('_', '-')}={value})")
    return None
