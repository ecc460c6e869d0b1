"""All that a job reads: decided once, and named by a digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dicomnode.model.instance import InstanceRef
from dicomnode.model.job import Job
from dicomnode.services.routing import input_digest
from dicomnode.store import catalog, jobs, priors
from dicomnode.store.database import Transaction


@dataclass(frozen=True, slots=True)
class FrozenInput:
    """All that a job reads: the instances of its series, and of each prior series, by its name and place."""

    instances: Sequence[InstanceRef]
    priors: Mapping[tuple[str, int], Sequence[InstanceRef]]

    @property
    def digest(self) -> str:
        """Names this input set."""
        named = {f"{name} {place}": refs for (name, place), refs in self.priors.items()}
        return input_digest(self.instances, named)

    @property
    def refs(self) -> Iterator[InstanceRef]:
        """Every instance."""
        yield from self.instances
        for refs in self.priors.values():
            yield from refs


def frozen_input(tx: Transaction, job: Job) -> FrozenInput:
    """What a job reads, as the rows say."""
    given = {
        (each.name, each.place): catalog.input_set(tx, each.series_id, each.generation)
        for each in priors.frozen(tx, job.id)
    }
    return FrozenInput(catalog.input_set(tx, job.series_id, job.generation), given)


def freeze(tx: Transaction, job_id: int) -> None:
    """Nothing more is sought for a held job: its input is what it is now."""
    jobs.freeze_input(tx, job_id, frozen_input(tx, jobs.get(tx, job_id)).digest)
