"""
The margins by which a folder of baselines decides: what is stored, what is shown, one rule.

A margin is what the noise of all the card model's baselines supports, so that it changes with each
of them. Verdicts compute it; a stored margin is that of the moment when its entry was stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_kernelperf.model import Entry
from pytest_kernelperf.store.baselines import Baselines, Stored
from pytest_kernelperf.store.entries import normalised

if TYPE_CHECKING:
    from pytest_kernelperf.analysis import Noise


def noise_of(baselines: Baselines, slug: str) -> Noise:
    """
    Return what a card model's baselines know of noise, as they are stored now; "" has none.
    """
    from pytest_kernelperf.analysis import noise_from

    entries = baselines.entries(slug) if slug else ()
    return noise_from((each.regime, each.entry.reference) for each in entries)


def decisive(stored: Stored, noise: Noise) -> Entry:
    """
    Return an entry with the margins that its next verdicts have, where the test asks for none.

    Args:
        stored: Its percentiles are those of the margins that it was stored with.
        noise: From `noise_of`.
    """
    from pytest_kernelperf.analysis import margins

    reference = stored.entry.reference
    percentiles = sorted(reference.margins) or [50.0]
    found = margins(stored.regime, reference, percentiles, noise)
    return replace(stored.entry, reference=replace(reference, margins=found))


def restate(baselines: Baselines, slug: str, changed: Mapping[str, Collection[str]]) -> None:
    """
    Store the margins of changed entries anew, now that they have a part in the noise themselves.

    Args:
        baselines: Where they are.
        slug: Their card model.
        changed: Their keys, by test file.

    Raises:
        KernelPerfError: If a file can't be read or written.
    """
    noise = noise_of(baselines, slug)

    def entries_of(file: str, entries: Mapping[str, Entry]) -> dict[str, Entry]:
        # A key may be gone: the lock was given back since it was stored.
        stored = (Stored(slug, file, key, entries[key]) for key in changed[file] if key in entries)
        found = {each.key: normalised(decisive(each, noise), each.key) for each in stored}
        return {key: entry for key, entry in found.items() if entry != entries[key]}

    for file in changed:
        baselines.update(slug, file, partial(entries_of, file))
