"""
`kernelperf doctor`: says what this machine can do, and measures its card's ceilings.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from pytest_kernelperf import report
from pytest_kernelperf.analysis.diagnosis import diagnose, is_usable
from pytest_kernelperf.cli.parameters import baselines_option, root_of
from pytest_kernelperf.cli.terminal import look
from pytest_kernelperf.errors import KernelPerfError, OptionsError
from pytest_kernelperf.measure.apart import ask_apart
from pytest_kernelperf.measure.checkup import CEILINGS, PROBES
from pytest_kernelperf.measure.environment import environment
from pytest_kernelperf.model import Answer, Ceilings, Environment, Finding, Level, Peaks
from pytest_kernelperf.store.anchor import slug
from pytest_kernelperf.store.baselines import Baselines
from pytest_kernelperf.store.ceilings import keep_ceilings, read_ceilings
from pytest_kernelperf.store.files import write_bytes
from pytest_kernelperf.store.outputs import check_output
from pytest_kernelperf.units import counted


@click.command()
@baselines_option
@click.option(
    "--ceilings", is_flag=True, help="Measure this card's limits (seconds) and keep them."
)
@click.option(
    "--device",
    type=click.IntRange(min=0),
    default=0,
    metavar="INDEX",
    help="CUDA device as torch counts. Default: 0.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write findings."
)
@click.pass_context
def doctor(
    ctx: click.Context, baselines: Path | None, ceilings: bool, device: int, json_file: Path | None
) -> None:
    """
    Say what this machine can do, whether measurements on it can be trusted, and what to cure.
    """
    trusted = check_up(root_of(baselines), device, measure_ceilings=ceilings, json_file=json_file)
    ctx.exit(0 if trusted else 1)


def check_up(
    baselines: Path, device: int, *, measure_ceilings: bool, json_file: Path | None
) -> bool:
    """
    Ask all probes, show the findings, and return whether measurements can be trusted.

    Args:
        baselines: Folder in which baselines of this card are looked for.
        device: torch's index of the CUDA device.
        measure_ceilings: Measure the card's ceilings anew and keep them for this user.
        json_file: Where the findings go as JSON too.

    Raises:
        OptionsError: If ceilings are to be measured and there is no such card.
    """
    if json_file is not None:
        check_output(json_file)
    probes = (*PROBES, CEILINGS) if measure_ceilings else PROBES
    answers = ask_apart(probes, device, progress=_show_progress)
    _show_progress("")
    here = _environment_of(answers, device, asked=measure_ceilings or device > 0)
    findings = [*diagnose(answers), _baselines_finding(baselines, here)]
    ceilings = None
    if here.gpu is not None:
        peaks = answers["card"].facts.get("peaks", Peaks())
        ceilings, finding = _ceilings_of(here, peaks, answers.get(CEILINGS.name))
        findings.append(finding)
    click.echo(report.checkup_text(findings, color=look()["color"]))
    if json_file is not None:
        write_bytes(json_file, report.checkup_json(findings, ceilings).encode())
    return is_usable(findings)


def _environment_of(answers: Mapping[str, Answer], device: int, *, asked: bool) -> Environment:
    """
    Return the card's environment, or the CPU's where there is no card and nobody asked for one.
    """
    card = answers["card"]
    if card.facts:
        found = card.facts["environment"]
        assert isinstance(found, Environment)
        return found
    if asked and not card.failure:
        count = len(answers["cards"].facts.get("cards", []))
        found = f"devices 0 to {count - 1}" if count else "no device"
        raise OptionsError(
            f"there is no CUDA device {device} to look at: torch finds {found}; "
            "leave out --device and --ceilings, or name one that is there"
        )
    return environment("cpu")


def _baselines_finding(root: Path, here: Environment) -> Finding:
    """
    Say whether there are baselines for this card or processor, and whether they are its own.
    """
    folder = slug(here.device_name)
    try:
        stored = Baselines(root).entries(folder)
    except KernelPerfError as error:
        cure = "restore the file from version control"
        return Finding("baselines", Level.BAD, str(error), cure)
    if not stored:
        text = f"none for {folder} in {root}"
        cure = "pytest --kernelperf-update --kernelperf-processes 5"
        return Finding("baselines", Level.NOTE, text, cure)
    own = [
        each
        for each in stored
        if any(one.environment.card == here.card for one in each.entry.reference.processes)
    ]
    text = f"{counted(len(stored), 'entry', 'entries')} for {folder}, {len(own)} of this very one"
    if len(own) < len(stored):
        cure = "pytest --kernelperf-update on this card narrows the intervals (OTHER_CARD)"
        return Finding("baselines", Level.NOTE, text, cure)
    return Finding("baselines", Level.OK, text)


def _ceilings_of(
    here: Environment, peaks: Peaks, measured: Answer | None
) -> tuple[Ceilings | None, Finding]:
    """
    Return the card's ceilings, kept if they were measured just now, and what to say of them.
    """
    topic = "ceilings"
    if measured is not None and measured.failure:
        text = f"could not be measured: {measured.failure}"
        return None, Finding(topic, Level.BAD, text, "free the card, and run it again")
    try:
        if measured is not None:
            ceilings = measured.facts["ceilings"]
            path = keep_ceilings(here.card, ceilings)
            text = f"{report.ceilings_text(ceilings)}; kept in {path}"
            return ceilings, Finding(topic, Level.OK, text)
        kept = read_ceilings(here.card)
    except KernelPerfError as error:
        return None, Finding(topic, Level.BAD, str(error), "delete the file")
    if kept is None:
        known = report.peaks_text(peaks)
        text = (
            f"not measured: shares refer to theoretical peaks ({known or 'unknown for this card'})"
        )
        return None, Finding(topic, Level.NOTE, text, "kernelperf doctor --ceilings")
    return kept, Finding(topic, Level.OK, f"{report.ceilings_text(kept)}; measured {kept.taken}")


def _show_progress(name: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{name and f'looking at {name} ...'}", nl=False, err=True)
