"""
One line on the terminal that says what is being measured right now.
"""

from __future__ import annotations

import sys
import time
from functools import cached_property

import pytest

#: Writing costs a switch of pytest's capturing, so a line lives at least this long.
_MIN_INTERVAL_S = 0.2
#: ANSI: remember the cursor, erase from it to the end of the line, go back to it.
_SAVE, _ERASE, _RESTORE = "\x1b7", "\x1b[K", "\x1b8"


class ProgressLine:
    """
    Shows short texts behind what pytest has written, and takes them away again.

    Silent under `-q`, without a terminal, and in a worker of pytest-xdist.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shown = False
        self._written_at = 0.0

    @cached_property
    def _width(self) -> int:
        """
        Columns of the terminal, 0 to be silent; asked late, as pytest registers its reporter last.
        """
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        is_shown = bool(getattr(reporter, "isatty", False)) and self._config.get_verbosity() >= 0
        return self._config.get_terminal_writer().fullwidth if is_shown else 0

    def __call__(self, text: str) -> None:
        """
        Show a text in place of the last one; an empty text takes it away.
        """
        if not (text or self._shown) or not self._width:
            return
        now = time.monotonic()
        if text and now - self._written_at < _MIN_INTERVAL_S:
            return
        # Half the line is free behind pytest's own "file.py ..." at nearly any moment; a text that
        # wrapped could not be erased.
        room = max(self._width // 2, 10)
        self._write(f"{_SAVE}{_ERASE}  {text[:room]}{_RESTORE}" if text else _ERASE)
        self._shown, self._written_at = bool(text), now

    def _write(self, text: str) -> None:
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            _put(text)
            return
        with capture.global_and_fixture_disabled():
            _put(text)


def _put(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
