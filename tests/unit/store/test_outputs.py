"""
Output files: none may replace a baseline, a run that is not its own kind, or what is being read.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.store.outputs import check_output

RUN = b'{"schema_version":1,"kind":"kernelperf-run"}\n{"complete":true,"lines":0}\n'


@pytest.mark.parametrize("field", ["entries", "kernels", "proof"])
@pytest.mark.parametrize("replaces_run", [True, False])
def test_no_output_replaces_a_file_of_baselines(tmp_path: Path, field, replaces_run) -> None:
    path = tmp_path / "test_it.json"
    path.write_text(f'{{"schema_version": 99, "{field}": {{}}}}')

    with pytest.raises(OptionsError, match="is a file of baselines"):
        check_output(path, replaces_run=replaces_run)


def test_a_baseline_is_found_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "test_it.json").write_text('{"schema_version": 1, "entries": {}}')
    (tmp_path / "link").symlink_to("test_it.json")

    with pytest.raises(OptionsError, match="is a file of baselines"):
        check_output(tmp_path / "link")


@pytest.mark.parametrize("data", [RUN, gzip.compress(RUN)], ids=["plain", "packed"])
def test_only_a_run_replaces_a_run(tmp_path: Path, data) -> None:
    path = tmp_path / "run"
    path.write_bytes(data)

    check_output(path, replaces_run=True)
    with pytest.raises(OptionsError, match="is a recorded run"):
        check_output(path)


def test_no_output_replaces_an_input(tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text("{}")
    (tmp_path / "link").symlink_to(path)

    check_output(path, [tmp_path / "missing"])
    with pytest.raises(OptionsError, match="is read by this command"):
        check_output(path, [tmp_path / "link"])


@pytest.mark.parametrize(
    "text", ["", "# Report", "[]", '{"schema_version": 1, "kind": "kernelperf-results"}', "{"]
)
def test_an_earlier_output_is_replaced(tmp_path: Path, text) -> None:
    path = tmp_path / "out"
    path.write_text(text)

    check_output(path)


def test_devices_and_what_is_not_there_are_taken(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "out.json")
    check_output(Path("/dev/null"))
