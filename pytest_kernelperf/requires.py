"""
Says what a test requires of the machine and this one lacks.
"""

from __future__ import annotations


def find_missing(requires: tuple[str, ...]) -> str | None:
    """
    Return what a test requires and this machine lacks, as a skip reason.

    Args:
        requires: "cuda" and names like "sm_90"; empty for nothing.
    """
    if not requires:
        return None
    try:
        import torch
    except ImportError:
        return f"requires {requires[0]}: torch is not installed"
    if not torch.cuda.is_available():
        return f"requires {requires[0]}: torch finds no CUDA device"
    major, minor = torch.cuda.get_device_capability()
    for name in requires:
        if name != "cuda" and int(name.removeprefix("sm_")) > 10 * major + minor:
            return f"requires {name}: this card is sm_{major}{minor}"
    return None
