"""
`python -m pytest_kernelperf` is the `kernelperf` command.
"""

from __future__ import annotations

from pytest_kernelperf.cli import main

if __name__ == "__main__":
    main(prog_name="kernelperf")
