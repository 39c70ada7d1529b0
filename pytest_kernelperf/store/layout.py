"""
JSON text that is pleasant to review: sorted keys, one line per round, a new line at the end.
"""

from __future__ import annotations

import json
from typing import Any

#: Containers of plain values that fit go on one line; the width of a review page.
MAX_LINE = 100


def to_text(document: dict[str, Any], *, first: str) -> str:
    """
    Return the text of a document.

    Args:
        document: Only what JSON has; no NaN or infinity.
        first: The key that comes before all others, the rest is sorted.
    """
    keys = [first, *(key for key in sorted(document) if key != first)]
    return _broken(_short_numbers(document), "", keys) + "\n"


def _short_numbers(value: Any) -> Any:
    # 1980 and 1980.0 are one number: what was read back must be written as it was.
    if isinstance(value, dict):
        return {key: _short_numbers(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short_numbers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any, indent: str) -> str:
    line = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or not value or _is_line(value, line):
        return line
    keys = sorted(value) if isinstance(value, dict) else None
    return _broken(value, indent, keys)


def _is_line(value: Any, line: str) -> bool:
    if isinstance(value, dict) and "us" in value:  # a round
        return True
    parts = value.values() if isinstance(value, dict) else value
    return len(line) <= MAX_LINE and not any(isinstance(part, dict | list) for part in parts)


def _broken(value: Any, indent: str, keys: list[str] | None) -> str:
    deeper = indent + " "
    if keys is None:
        lines = [deeper + _text(part, deeper) for part in value]
    else:
        lines = [
            f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_text(value[key], deeper)}"
            for key in keys
        ]
    opening, closing = "[]" if keys is None else "{}"
    return f"{opening}\n" + ",\n".join(lines) + f"\n{indent}{closing}"
