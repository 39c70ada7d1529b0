"""
The `kernelperf` command: parse, call, exit status.

Exit status: 0 nothing failed, 1 a failing verdict or a refused update, 2 wrong usage or a file that
can't be read or written.
"""

from __future__ import annotations

from typing import Any

import click

from pytest_kernelperf.cli.calibrating import calibrate
from pytest_kernelperf.cli.checkup import doctor
from pytest_kernelperf.cli.compiling import resources
from pytest_kernelperf.cli.judging import compare, judge, show
from pytest_kernelperf.cli.reporting import write_report
from pytest_kernelperf.cli.upkeep import prune, rename, update
from pytest_kernelperf.errors import KernelPerfError


class _Refusal(click.ClickException):
    exit_code = 2


class _Group(click.Group):
    """
    Turns errors that are said on purpose into a message and exit status 2.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KernelPerfError as error:
            raise _Refusal(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-kernelperf", prog_name="kernelperf")
def main() -> None:
    """
    Judge recorded kernel measurements and look after their baselines.

    Exit status: 0 nothing failed, 1 a failing verdict or a refused update, 2 wrong usage or a file
    that can't be read or written.
    """


for _command in (
    *(judge, compare, show, update, prune, rename),
    *(write_report, calibrate, resources, doctor),
):
    main.add_command(_command)
