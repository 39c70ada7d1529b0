"""
Reads what the whole run was asked to do, from ini keys and command line, into frozen `Settings`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_kernelperf.errors import OptionsError
from pytest_kernelperf.options import Layer, parse_value

#: Marker keywords that are ini keys too.
_INI_KEYWORDS = ("timer", "l2", "pace", "percentiles", "max_regression", "rounds", "max_time")
#: Marker keywords that the command line can force.
_OPTION_KEYWORDS = ("timer", "rounds", "max_time")
#: Settings of the run that are numbers and no keywords.
_OWN = ("processes", "budget")
#: Options that take a value.
_VALUED = ("baselines", "record", "json", "against", *_OPTION_KEYWORDS, *_OWN)
#: What does nothing in a run that does not measure.
_IDLE = ("strict", "compile_only", *_VALUED)
#: Keywords whose text form is numbers, or percentile=number pairs.
_NUMERIC = frozenset({"percentiles", "max_regression", "rounds", "max_time"})


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What the whole run was asked to do, from ini keys and command line.

    Attributes:
        measuring: `--kernelperf`, or an update, which implies it.
        baselines: Where baselines lie; None = `baselines` under each test file's anchor.
        compile_only: Only compile what is marked `resources=`, also where there is a GPU.
        defaults: The ini layer, below all marks.
        forced: The command line's layer, above all marks.
        hang_timeout_s: Longest a measured call may take before the run is ended; 0 = for ever.
        processes: Processes that measure each test; None = as many as its verdicts need.
        budget_s: Time that the run may spend in fresh processes; None = no limit.
        against: The revision to compare with instead of baselines; None = baselines.
        build: Command that builds a checkout before it is measured; None = nothing to build.
    """

    measuring: bool = False
    only: bool = False
    update: bool = False
    update_new: bool = False
    accept_regressions: bool = False
    strict: bool = False
    compile_only: bool = False
    baselines: Path | None = None
    record: Path | None = None
    json: Path | None = None
    defaults: Layer = field(default_factory=dict)
    forced: Layer = field(default_factory=dict)
    hang_timeout_s: float = 300.0
    processes: int | None = None
    budget_s: float | None = None
    against: str | None = None
    build: str | None = None

    @property
    def updating(self) -> bool:
        """
        Whether baselines are written at the end.
        """
        return self.update or self.update_new


def read_settings(
    option: Callable[[str], Any], ini: Callable[[str], Any], folder: Path, ini_folder: Path
) -> Settings:
    """
    Read and check the run's settings.

    Args:
        option: Value of a command line option by its name without the prefix; None if not given.
        ini: Value of an ini key by its name without the prefix; None if not set.
        folder: Paths on the command line are relative to it: where pytest was started.
        ini_folder: Paths in the ini file are relative to it.

    Raises:
        OptionsError: If a value is wrong, or an option would do nothing.
    """
    update, update_new = bool(option("update")), bool(option("update_new"))
    measuring = bool(option("measure")) or update or update_new
    _refuse_idle_options(option, measuring=measuring)
    baselines = _path(option("baselines"), folder) or _path(ini("baselines"), ini_folder)
    return Settings(
        measuring=measuring,
        only=bool(option("only")),
        update=update,
        update_new=update_new,
        accept_regressions=bool(option("accept_regressions")),
        strict=bool(option("strict") or ini("strict")),
        compile_only=bool(option("compile_only")),
        baselines=baselines,
        record=_path(option("record"), folder),
        json=_path(option("json"), folder),
        defaults=_text_layer(ini, _INI_KEYWORDS, "kernelperf_{}"),
        forced=_text_layer(option, _OPTION_KEYWORDS, "--kernelperf-{}"),
        hang_timeout_s=_hang_timeout(ini("hang_timeout")),
        processes=_own_number(option, ini, "processes", "rounds"),
        budget_s=_own_number(option, ini, "budget", "max_time"),
        against=option("against") or None,
        build=ini("build") or None,
    )


def _text_layer(
    value_of: Callable[[str], Any], names: Iterable[str], spelling: str, like: str = ""
) -> dict[str, Any]:
    layer = {}
    for name in names:
        value = value_of(name)
        if value in (None, "", []):
            continue
        words = value if isinstance(value, list) else re.split(r"[,\s]+", str(value).strip())
        try:
            layer[name] = parse_value(
                like or name, _from_words(like or name, [str(word) for word in words])
            )
        except OptionsError as error:
            where = spelling.format(name.replace("_", "-") if "-" in spelling else name)
            raise OptionsError(f"{where}: {error}") from None
    # The default in the ini file is no demand: what has no tensor to rotate is measured warm.
    return {name: value for name, value in layer.items() if (name, value) != ("l2", "cold")}


def _from_words(name: str, words: list[str]) -> Any:
    if name not in _NUMERIC:
        return words if len(words) != 1 else words[0]
    pairs = [re.split(r"[=:]", word) for word in words]
    try:
        if all(len(pair) == 2 for pair in pairs):
            return {float(key): float(value) for key, value in pairs}
        numbers = [int(word) if word.isdigit() else float(word) for word in words]
    except ValueError:
        raise OptionsError(f"expected numbers, got {' '.join(words)!r}") from None
    return numbers if len(numbers) != 1 else numbers[0]


def _hang_timeout(value: Any) -> float:
    if value is None:
        return Settings().hang_timeout_s
    if not (math.isfinite(value) and value >= 0):
        raise OptionsError(
            f"kernelperf_hang_timeout: expected seconds, or 0 to wait for ever, got {value!r}"
        )
    return float(value)


def _own_number(
    option: Callable[[str], Any], ini: Callable[[str], Any], name: str, like: str
) -> Any:
    """
    Return a number that is no marker keyword, from the command line or else the ini file.

    Args:
        option: As in `read_settings`.
        ini: As in `read_settings`.
        name: The setting.
        like: The keyword whose values it takes.
    """
    names = (name,)
    given = _text_layer(option, names, "--kernelperf-{}", like) or _text_layer(
        ini, names, "kernelperf_{}", like
    )
    return given.get(name)


def _path(value: str | None, folder: Path) -> Path | None:
    return folder / value if value else None


def _refuse_idle_options(option: Callable[[str], Any], *, measuring: bool) -> None:
    """
    Raise for options that would do nothing: an accepted option that does nothing is a lie.
    """
    for name in _VALUED:
        if option(name) == "":  # "$BASE" where that is not set: another gate than was asked for.
            raise OptionsError(f"{_spelled(name)}: expected a value, got ''")
    if option("update") and option("update_new"):
        raise OptionsError(
            "--kernelperf-update and --kernelperf-update-new: expected one of them, got both"
        )
    if option("accept_regressions") and not option("update"):
        raise OptionsError(
            "--kernelperf-accept-regressions says what --kernelperf-update may store: "
            "add --kernelperf-update"
        )
    for name in ("update", "update_new", "baselines", "compile_only"):
        if option("against") and option(name):
            raise OptionsError(
                f"{_spelled(name)}: --kernelperf-against compares times with a revision's and "
                "neither reads nor writes baselines: leave one of them out"
            )
    if measuring:
        return
    for name in _IDLE:
        if option(name):
            raise OptionsError(f"{_spelled(name)} does nothing without --kernelperf: add it")


def _spelled(name: str) -> str:
    return f"--kernelperf-{name.replace('_', '-')}"


def faulthandler_timeout_s(config: Any) -> float:
    """
    Return pytest's own limit for a test, seconds; 0.0 where it has none (`-p no:faulthandler`).
    """
    if not config.pluginmanager.hasplugin("faulthandler"):
        return 0.0
    return float(config.getini("faulthandler_timeout") or 0.0)
