"""
Says as what an autotuned kernel is compiled where nothing can be timed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from pytest_kernelperf.model import Kernel


@contextmanager
def tuned_like(stored: Sequence[Kernel]) -> Iterator[list[str]]:
    """
    Let autotuned kernels in the block take the configuration that they are stored with.

    What a card chose is in the baseline; without it the first configuration is taken, since
    compiling all of them would take minutes and judge many that never run.

    Args:
        stored: The baseline's kernels, in the order launched.

    Yields:
        A sentence on each kernel whose choice was not known, filled as they are launched.
    """
    from triton.runtime.autotuner import Autotuner

    unknown: list[str] = []
    left = list(stored)
    prune, run = Autotuner.prune_configs, Autotuner.run

    def choose(self: Any, *args: Any, **kwargs: Any) -> list[Any]:
        configs: list[Any] = prune(self, *args, **kwargs)
        name = self.base_fn.__name__
        for kernel in (one for one in left if one.name == name):
            chosen = next((one for one in configs if _is_of(one, kernel)), None)
            if chosen is not None:
                left.remove(kernel)
                return [chosen]
        text = f"{name} is autotuned: compiled as the first of {len(configs)} configurations"
        if len(configs) > 1 and text not in unknown:
            unknown.append(text)
        return configs[:1]

    def forget_and_run(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.cache.clear()  # It does not tell targets apart, nor what each is stored with.
        return run(self, *args, **kwargs)

    with (
        mock.patch.object(Autotuner, "prune_configs", choose),
        mock.patch.object(Autotuner, "run", forget_and_run),
    ):
        yield unknown


def _is_of(config: Any, kernel: Kernel) -> bool:
    """
    Return whether a kernel was compiled with a configuration of its autotuner.
    """
    chosen = {name: str(value) for name, value in config.all_kwargs().items()}
    return all(kernel.constants.get(name) == value for name, value in chosen.items())
