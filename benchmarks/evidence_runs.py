"""
What the evidence scripts share: fresh pytests one after the other, within a time, kept as they end.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence_turn import TURN

ROOT = Path(__file__).resolve().parents[1]
TEST = ROOT / "tests" / "perf" / "test_attention.py"
#: The plain test of the nine shapes, without those on the CPU.
SELECTED = ("-k", "test_attention and not cpu")
#: A fresh pytest that takes longer hangs.
LIMIT_S = 280.0
_TAIL = 2500
_FAREWELL_S = 20.0


class Budget:
    """
    The time that a script may take, from its start.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def allows(self, seconds: float) -> bool:
        """
        Return whether something that took so long fits in once more, with a fifth to spare.
        """
        return self._until - time.monotonic() > 1.2 * seconds


@dataclass(frozen=True)
class Ended:
    """
    A pytest that ran to its end.

    Attributes:
        seconds: From its turn to its end.
        output: The last of what it printed.
    """

    status: int
    seconds: float
    output: str


def run_pytest(arguments: Sequence[str], folder: Path) -> Ended:
    """
    Run one fresh pytest.
    """
    return _Started(arguments, folder).finish()


def relay(commands: Sequence[Sequence[str]], folder: Path, budget: Budget) -> Iterator[Ended]:
    """
    Run fresh pytests one after the other, until the next would not fit into the budget.

    Each is started while the one before measures, and then waits for its turn (evidence_turn.py).

    Args:
        commands: pytest's arguments, per run.
        folder: Where it starts.
        budget: Asked before each turn, for what the longest run so far took.
    """
    longest_s = 20.0
    ahead: _Started | None = None
    try:
        for at, arguments in enumerate(commands):
            if not budget.allows(longest_s):
                print(f"the budget is spent: {len(commands) - at} runs are left")
                return
            own = ahead or _Started(arguments, folder)
            ahead = _Started(commands[at + 1], folder) if at + 1 < len(commands) else None
            ended = own.finish()
            longest_s = max(longest_s, ended.seconds)
            yield ended
    finally:
        if ahead is not None:
            ahead.cancel()


class _Started:
    """
    A pytest that imports, and then waits for its turn.
    """

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        theirs, self._turn = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed with the process
        path = os.pathsep.join(
            (str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", ""))
        )
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("-p", "evidence_turn", "--kernelperf", *arguments),
            ],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path.rstrip(os.pathsep), TURN: str(theirs)},
            pass_fds=(theirs,),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        os.close(theirs)

    def finish(self) -> Ended:
        """
        Give it its turn, and wait for its end.
        """
        began = time.monotonic()
        # One that has ended already says why in its output.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._turn, b"!")
        try:
            status = self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        seconds = time.monotonic() - began
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        os.close(self._turn)
        self._log.close()
        return Ended(status, seconds, text[-_TAIL:])

    def cancel(self) -> None:
        """
        Take its turn away, so that it tidies up and ends.
        """
        os.close(self._turn)
        try:
            self._process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def load(path: Path) -> dict[str, Any]:
    """
    Return what `save` wrote, or the beginning of it.
    """
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": []}
    return found


def save(found: Mapping[str, Any], path: Path) -> None:
    """
    Write it, so that whoever is killed leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(found, indent=1) + "\n")
    beside.replace(path)


def keep(
    found: dict[str, Any],
    runs: Iterable[Mapping[str, Any]],
    folder: Path,
    names: Iterable[str],
    target: Path | None,
) -> None:
    """
    Keep each run as it ends, until the first one or two in a row have a problem: so would the next.

    Args:
        found: What `load` returned; its `runs` grow.
        runs: What `relay` brings, as it is to be kept.
        folder: Gets `summary.json`.
        names: What else the archive holds, as in `pack`.
        target: The archive; None for none.
    """
    for run in runs:
        found["runs"].append(run)
        save(found, folder / "summary.json")
        if target is not None:
            pack(folder, ("summary.json", *names), target)
        if all(run["problem"] for run in found["runs"][-2:]):
            return


def pack(folder: Path, names: Iterable[str], target: Path) -> None:
    """
    Put what is there of a folder's files into one archive, replacing it.

    Args:
        folder: Where they lie.
        names: Patterns of names in the folder.
        target: The tar.gz to write.
    """
    beside = target.with_name(f"{target.name}.new")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(beside, "w:gz") as archive:
        for path in sorted(path for name in names for path in folder.glob(name)):
            archive.add(path, path.relative_to(folder))
    beside.replace(target)


def gate_test() -> str:
    """
    Return the text of the perf test, narrowed to what is proven: P50 by the device timer.
    """
    text = TEST.read_text()
    for old, new in (
        ("    percentiles=(50, 95, 99),\n", "    percentiles=(50,),\n"),
        ('    timer=("device", "launch"),\n', '    timer="device",\n'),
        ('    resources={"spills": 0, "warnings": 0, "targets": "sm_90"},\n', ""),
    ):
        text = replaced(text, old, new)
    return text


def replaced(text: str, old: str, new: str) -> str:
    """
    Replace what must be there exactly once: another text would be another test.
    """
    if text.count(old) != 1:
        raise SystemExit(f"{TEST.name}: expected once, found {text.count(old)} times: {old!r}")
    return text.replace(old, new)


_KEPT = (
    *("status", "reason", "time_us", "baseline_us", "change", "change_interval", "margin"),
    "sentence",
)


def verdicts(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Return what a run's JSON says of each judged percentile, in the order measured.

    `processes` is how many of the candidate it was told from, `finds` the minimum detectable
    slowdown.
    """
    return [
        {
            "file": measurement["file"],
            "shape": shape_of(measurement["test"]),
            "processes": len(measurement["processes"]),
            "card": _card(document, measurement),
            "notes": [note for note in measurement["notes"] if "is missing" in note],
            "finds": verdict["detectable"],
            **{key: verdict[key] for key in _KEPT},
        }
        for measurement in document["measurements"]
        for verdict in measurement["verdicts"]
        if verdict["judged"]
    ]


def shape_of(test: str) -> str:
    """
    Return "512x8" for "test_attention[512-8]".
    """
    return test[test.index("[") + 1 : -1].replace("-", "x")


def _card(document: Mapping[str, Any], measurement: Mapping[str, Any]) -> str:
    where = document["environments"][measurement["processes"][0]["environment"]]
    return str(where["gpu"]["uuid"] if where["gpu"] else where["cpu"])


def counts(values: Iterable[object]) -> str:
    """
    Return "18 UNCHANGED, 2 INCONCLUSIVE", the most frequent first.
    """
    return ", ".join(f"{number} {value}" for value, number in Counter(values).most_common())


def line_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """
    Return verdicts of one shape in a line: statuses, processes, spread, change, margin.
    """
    said = counts(f"{row['status']} {row['reason']}" for row in rows)
    looked = Counter(row["processes"] for row in rows)
    times = [row["time_us"] for row in rows if row["time_us"]]
    changes = [row["change"] for row in rows if row["change"] is not None]
    parts = [said, f"processes {', '.join(f'{n}: {looked[n]}' for n in sorted(looked))}"]
    if times:
        middle = statistics.median(times)
        spread = f", range {(max(times) - min(times)) / middle:.2%}" if times[1:] else ""
        parts.append(f"{middle:.3f} us{spread}")
    if changes:
        parts.append(f"change {statistics.median(changes):+.2%}")
    for name in ("margin", "finds"):
        values = [row[name] for row in rows if row[name] is not None]
        parts += [f"{name} {statistics.median(values):.2%}"] if values else []
    return "; ".join(parts)


def size_said(found: Mapping[str, float] | None) -> str:
    """
    Return what `compare` said of a slowdown; nothing where there is none.
    """
    if found is None:
        return ""
    return f"; compare says {found['change']:+.2%} ({found['low']:+.2%} to {found['high']:+.2%})"
