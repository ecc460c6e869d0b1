"""What the results of a run say of their origin."""

from __future__ import annotations

from datetime import datetime

from dicomnode import __version__
from dicomnode.config import Config
from dicomnode.model.job import Job
from dicomnode.results.provenance import Provenance
from dicomnode.store import jobs
from dicomnode.store.database import Transaction
from dicomnode.store.identity import installation_uid

SERIES_NUMBERS = 20
"""Each job of a study has this many SeriesNumbers to itself."""


def provenance_of(
    config: Config, installation: str, job_key: str, pipeline_digest: str, at: datetime, place: int = 0
) -> Provenance:
    """`place` is the job's among those of its study."""
    return Provenance(
        installation=installation,
        job_key=job_key,
        pipeline_digest=pipeline_digest,
        manufacturer=config.results.manufacturer,
        model_name="dicomnode",
        software_version=__version__,
        device_serial_number=config.results.device_serial_number,
        research_only=config.results.research_only,
        series_number_base=config.results.series_number + SERIES_NUMBERS * place,
        produced_at=at,
    )


def origin_of(tx: Transaction, config: Config, job: Job, at: datetime) -> Provenance:
    """What the results of a job in the database say."""
    place = jobs.place_in_study(tx, job)
    return provenance_of(config, installation_uid(tx), job.key, job.pipeline_digest, at, place)
