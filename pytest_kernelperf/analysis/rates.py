"""
Rates of counted events with their exact confidence limits (Clopper-Pearson).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scipy import special

#: Each limit is one-sided at 95 %: 0 of n gives at most 3 / n.
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """
    How often something happened.

    Attributes:
        hits: Times that it happened.
        trials: Times that it could have.
    """

    hits: int = 0
    trials: int = 0

    @property
    def share(self) -> float | None:
        """
        The observed share; None without a trial.
        """
        return self.hits / self.trials if self.trials else None

    @property
    def at_most(self) -> float:
        """
        Upper 95 % limit of the true share; 1.0 without a trial.

        Source:
            Clopper & Pearson (1934), The use of confidence or fiducial limits.
        """
        if self.hits >= self.trials:
            return 1.0
        return float(special.betaincinv(self.hits + 1, self.trials - self.hits, _CONFIDENCE))

    @property
    def at_least(self) -> float:
        """
        Lower 95 % limit of the true share; 0.0 without a hit.
        """
        if self.hits == 0:
            return 0.0
        return float(special.betaincinv(self.hits, self.trials - self.hits + 1, 1 - _CONFIDENCE))


def total(rates: Iterable[Rate]) -> Rate:
    """
    Return several rates' events taken together.
    """
    found = list(rates)
    return Rate(sum(each.hits for each in found), sum(each.trials for each in found))
