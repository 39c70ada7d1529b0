"""
Remembers launches, so that the next call like an earlier one is a look-up and a launch.

A call is found by what is cheap to ask, and the plan itself decides. The plan repeated last is
tried first: a lone caller repeats itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .guards import Guard

if TYPE_CHECKING:
    from .repeated_launch import Plan

# Bounded: a cache that grows by one key a step makes a new key every step.
MAX_PLANS = 4096
# Per shape: dtypes, layouts, devices, with and without inference mode.
MAX_VARIANTS = 8

Key = tuple[Any, ...]
_SCALES = (float, int, type(None))


class Plans:
    """All plans, by what is cheap to ask."""

    def __init__(self) -> None:
        self.latest: Plan | None = None  # of calls without `out`
        self.by_key: dict[Key, tuple[Plan, ...]] = {}

    def similar(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        causal: bool,
        scale: float | None,
        out: torch.Tensor | None,
        return_lse: bool,
    ) -> tuple[Plan, ...]:
        """
        Return the plans that may hold for a call.

        Args:
            q: As for `attention`, unchecked, like all others.
            k: Likewise.
            causal: Likewise.
            scale: Likewise.
            out: Likewise.
            return_lse: Likewise.
        """
        if not type(q) is type(k) is torch.Tensor:
            return ()
        # A key equals one of other types (1 == True, float32(0.5) == 0.5), which the checks refuse.
        if not type(causal) is type(return_lse) is bool or not isinstance(scale, _SCALES):
            return ()
        return self.by_key.get(plan_key(q, k, causal, scale, out, return_lse), ())

    def remember(self, key: Key, plan: Plan, guard: Guard) -> None:
        """
        Keep a plan for the next call like the one that made it.

        Args:
            key: What `plan_key` returned for that call.
            plan: The plan.
            guard: Knows that call's tensors from others.
        """
        plan.guard = guard
        plan.causal, plan.scale, plan.return_lse = key[2:5]
        if len(self.by_key) >= MAX_PLANS:
            self.clear()
        self.by_key[key] = (plan, *self.by_key.get(key, ())[: MAX_VARIANTS - 1])

    def clear(self) -> None:
        """Forget everything."""
        self.latest = None
        self.by_key.clear()


plans = Plans()


def plan_key(
    q: torch.Tensor,
    k: torch.Tensor,
    causal: bool,
    scale: float | None,
    out: torch.Tensor | None,
    return_lse: bool,
) -> Key:
    """Return what a launch was specialised for and no guard sees, and the shapes to find it by."""
    of_out = _out_key(out) if isinstance(out, torch.Tensor) else type(out)
    return q.shape, k.shape, causal, scale, return_lse, of_out


def _out_key(out: torch.Tensor) -> tuple[Any, ...]:
    return out.shape, out.stride(), out.dtype, out.get_device(), type(out), out.is_neg()
