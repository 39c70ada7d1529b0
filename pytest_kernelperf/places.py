"""
Refuses files and folders that can't serve a run as asked, before any time is spent on measuring.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.settings import Settings


def check_outputs(settings: Settings) -> None:
    """
    Refuse output files that can't be written, are one, or would replace what was measured.

    Raises:
        OptionsError: If record and JSON document would overwrite each other, or one of them a
            baseline or a test file, or the JSON document an earlier run.
        BaselineWriteError: If one can't be written.
    """
    named = {"record": settings.record, "json": settings.json}
    for name, path in named.items():
        # An option without its value takes the next word of the command line for it.
        if path is not None and str(path).partition("::")[0].endswith(".py"):
            raise OptionsError(
                f"--kernelperf-{name}: expected a file to write, got {path}, which is or would be "
                f"Python source; if that names a test, say --kernelperf-{name}=FILE before it"
            )
    outputs = [path for path in named.values() if path is not None]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise OptionsError(
            f"--kernelperf-record and --kernelperf-json: expected two files, got {outputs[0]} for "
            "both: one would overwrite the other"
        )
    if outputs:
        # Loads msgspec, which a run that writes nothing must not pay for.
        from pytest_kernelperf.store.outputs import check_output

        for path in outputs:
            check_output(path, replaces_run=path == settings.record)


def check_baselines(settings: Settings, *, named: bool) -> str:
    """
    Refuse a folder of baselines without a baseline: a slip would pass everything for want of one.

    Args:
        settings: What the run was asked to do.
        named: Whether this command line names the folder, and not the ini file, which may name it
            long before the first update.

    Returns:
        A warning; "" if there is nothing to say.

    Raises:
        OptionsError: If the named folder is not there.
        BaselineFormatError: If it holds no baseline.
    """
    folder = settings.baselines
    if folder is None or settings.updating or settings.against:
        return ""
    if named and not folder.exists():
        raise OptionsError(
            f"--kernelperf-baselines: there is no folder {folder}: expected the one that holds "
            "<card>/<test path>.json; to begin it, use --kernelperf-update-new"
        )
    if named:
        # Reading files loads msgspec, which a run that measures nothing must not pay for.
        from pytest_kernelperf.store.baselines import Baselines

        Baselines(folder).check_not_empty()
    if folder.exists():
        return ""
    return f"warning: kernelperf_baselines: there is no folder {folder}, so nothing has a baseline"


def shared_names(
    files_by_root: Mapping[Path, Sequence[Path]], record: Path | None
) -> Iterator[tuple[Path, str]]:
    """
    Yield what keeps measurements and would take two projects' test files for one, and why.

    Args:
        files_by_root: Folders of baselines, and the test files whose baselines lie there.
        record: The run's record, if it has one.
    """
    for root, files in files_by_root.items():
        if twins := _twins(files):
            yield (
                root,
                f"{twins} to the baselines in {root}, which would join their tests: expected one "
                "project per folder of baselines: run them apart with a folder each, or leave "
                "--kernelperf-baselines (kernelperf_baselines) out",
            )
    twins = _twins(sorted(path for files in files_by_root.values() for path in files))
    if record is not None and twins:
        yield record, f"{twins} to a record, which could not tell them apart: run them apart"


def _twins(test_files: Iterable[Path]) -> str:
    """
    Say which two files have one name below their anchors; "" if there are none.
    """
    from pytest_kernelperf.store.anchor import name_below_anchor

    owners: dict[str, Path] = {}
    for path in test_files:
        name = name_below_anchor(path)
        other = owners.setdefault(name, path)
        if other != path:
            return f"{other} and {path} are both {name}"
    return ""
