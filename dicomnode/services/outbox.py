"""What a run made, in the form that each destination takes, and the rows that send it there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dicomnode.model.profile import PROFILES, Profile
from dicomnode.model.result import EncodedResult
from dicomnode.store import deliveries
from dicomnode.store.database import Transaction
from dicomnode.store.object_store import Objects
from dicomnode.store.results import Stored

Forms = Mapping[Profile, tuple[EncodedResult, ...]]
"""The results of one run for each profile, in the order in which they are sent."""
ProfileOf = Callable[[str], Profile]
"""The profile of a destination, by its name."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One result in one form, whose bytes are durable."""

    profile: Profile
    stored: Stored


def profiles_of(destinations: Iterable[str], profile_of: ProfileOf) -> list[Profile]:
    """The forms that the destinations need, each once; the generic one where there is no destination."""
    return list(dict.fromkeys(map(profile_of, destinations))) or [PROFILES["generic"]]


def keep(objects: Objects, forms: Forms) -> list[Kept]:
    """Make the bytes of every form durable, before any row names them; the node lists the first form."""
    return [
        Kept(profile, (replace(encoded.instance, listed=number == 0), objects.put(encoded.data)))
        for number, (profile, results) in enumerate(forms.items())
        for encoded in results
    ]


def enqueue(
    tx: Transaction,
    result_ids: Sequence[int],
    kept: Sequence[Kept],
    destinations: Iterable[str],
    profile_of: ProfileOf,
) -> None:
    """Each destination is sent the results in its form; `result_ids` are those of `kept`, in its order."""
    for destination in destinations:
        wanted = profile_of(destination)
        for result_id, each in zip(result_ids, kept, strict=True):
            if each.profile == wanted:
                deliveries.add(tx, result_id, destination)
