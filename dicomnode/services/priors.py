"""Before a job runs, the priors that its pipeline asks for are sought, fetched, and frozen with its input.

A search is a row, and so is what it found: an engine that is killed goes on where it was, and what it had
fetched is not fetched again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import structlog

from dicomnode.config import PriorsSection
from dicomnode.errors import LeaseLost, NotFound, PeerError, Refused
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.facts import series_facts
from dicomnode.imaging.headers import read_headers
from dicomnode.imaging.patient import patient_of
from dicomnode.model.job import Job
from dicomnode.model.manifest import Prior
from dicomnode.model.prior import Candidate, Patient, Search, waiting_for
from dicomnode.pipeline.registry import Registry
from dicomnode.services.frozen_input import freeze
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.services.prior_source import SOP_CLASSES, PriorArchive
from dicomnode.services.prior_wanted import Wanted
from dicomnode.store import catalog, jobs, priors
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

LEASE_S = 6.0
"""A search whose engine was silent for this long is taken up by the next one."""
LOOK_AGAIN_S = 2.0

Place = tuple[int, int]
"""A series and its generation."""


class PriorService:
    """Seeks priors; several threads may tick at once, so that a slow archive holds up one job only."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        registry: Registry,
        settings: PriorsSection,
        archive: PriorArchive | None,
    ) -> None:
        self._database, self._objects, self._registry = database, objects, registry
        self._limit_s, self._archive = settings.limit_s, archive

    def start(self) -> None:
        """What was sought when the node went down has its time anew: nobody looked for it in between."""
        with self._database.begin() as tx:
            priors.begin_anew(tx)

    def tick(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Go on with one search; returns how many that were."""
        with self._database.read() as tx:
            if not priors.any_due(tx):
                return 0
        with self._database.begin() as tx:
            search = priors.claim(tx, LEASE_S, self._limit_s)
        if search is None:
            return 0

        def extend() -> None:
            with self._database.begin() as tx:
                priors.extend(tx, search, LEASE_S)

        until = time.monotonic() + max(search.remaining_s, LOOK_AGAIN_S)
        with Heartbeat(extend, LEASE_S / 3) as heartbeat, suppress(LeaseLost):
            self._seek(search, lambda: stopped() or heartbeat.lost.is_set() or time.monotonic() > until)
        return 1

    def give_up(self) -> int:
        """End the searches whose time is over, also where an archive keeps somebody waiting."""
        with self._database.read() as tx:
            overdue = priors.overdue(tx, self._limit_s)
        for search in overdue:
            with suppress(LeaseLost):
                self._end(search, "")
        return len(overdue)

    def _seek(self, search: Search, stopped: Callable[[], bool]) -> None:
        wanted = self._wanted(search)
        if wanted is None:
            self._settle(search, [], "the series or the pipeline is not there any more")
            return
        self._note(search)
        try:
            found = self._bring(wanted, stopped)
        except _NotHere as error:
            self._wait(search, str(error))
        except PeerError as error:
            log.warning("prior.not_asked", prior=search.id, error=type(error).__name__)
            self._wait(search, f"{self._asked} could not be asked: {error}")
        else:
            self._settle(search, found, self._said(found))

    def _wait(self, search: Search, problem: str) -> None:
        """Look again after a while, unless the time is over."""
        if search.over:
            self._end(search, problem)
            return
        with self._database.begin() as tx:
            priors.postpone(tx, search, problem, LOOK_AGAIN_S)

    @property
    def _asked(self) -> str:
        return self._archive.archive.name if self._archive is not None else ""

    def _said(self, found: list[Place]) -> str:
        if found:
            return f"{len(found)} found"
        return f"{self._asked} lists none" if self._asked else "none is here"

    def _note(self, search: Search) -> None:
        with self._database.begin() as tx:
            names = priors.sought(tx, search.job_id)
            jobs.note_awaited(tx, search.job_id, waiting_for(names, self._asked))

    def _wanted(self, search: Search) -> Wanted | None:
        with self._database.read() as tx:
            job = jobs.get(tx, search.job_id)
            instances = catalog.input_set(tx, job.series_id, job.generation)
        prior = self._prior(job, search.name)
        try:
            header = read_headers([self._objects.path(instances[0].sha256)])[0]
        except (Refused, OSError):
            return None
        if prior is None:
            return None
        return Wanted(
            prior,
            patient_of(header),
            job.StudyInstanceUID,
            (text_of(header, "StudyDate"), text_of(header, "StudyTime")),
            series_facts(header, len(instances)),
        )

    def _prior(self, job: Job, name: str) -> Prior | None:
        try:
            pipeline = self._registry.pinned(job.pipeline, job.pipeline_digest)
        except NotFound:
            return None
        return next((prior for prior in pipeline.manifest.prior if prior.name == name), None)

    def _held(self, wanted: Wanted) -> dict[Candidate, Place]:
        """The complete series of the own catalog that suit."""
        if not wanted.patient.PatientID or not wanted.at[0]:
            return {}
        with self._database.read() as tx:
            held = priors.held_candidates(
                tx, wanted.patient.PatientID, wanted.first, wanted.at[0], wanted.StudyInstanceUID
            )
        return {candidate: place for candidate, place in held.items() if wanted.suits(candidate)}

    def _candidates(self, wanted: Wanted) -> Iterator[tuple[Candidate, Place | None]]:
        """All that suit, the latest first, with their places; without one those that the archive lists.

        It is asked about one study after the other, for as long as more are wanted. Raises PeerError.
        """
        held = self._held(wanted)
        left: dict[str, tuple[Candidate, Place | None]] = {
            candidate.SeriesInstanceUID: (candidate, place) for candidate, place in held.items()
        }
        for study in self._studies(wanted):
            if self._archive is not None:
                listed = filter(wanted.suits, self._archive.series(study))
                left |= {candidate.SeriesInstanceUID: (candidate, None) for candidate in listed}
            moment = study.order[:2]
            for candidate, place in _latest_first(left.values()):
                if candidate.order[:2] >= moment:
                    del left[candidate.SeriesInstanceUID]
                    yield candidate, place
        yield from _latest_first(left.values())

    def _studies(self, wanted: Wanted) -> list[Candidate]:
        """The studies that the archive lists, the latest first. Raises PeerError."""
        if self._archive is None or not wanted.patient.PatientID or not wanted.at[0]:
            return []
        studies = self._archive.studies(wanted.patient.PatientID, f"{wanted.first}-{wanted.at[0]}")
        return sorted(filter(wanted.may_be_in, studies), key=lambda study: study.order, reverse=True)

    def _bring(self, wanted: Wanted, stopped: Callable[[], bool]) -> list[Place]:
        """As many as are wanted, here and complete, or as there are.

        Raises PeerError; and _NotHere where one of them is not here, or nobody can tell whether more will be.
        """
        found: list[Place] = []
        for candidate, held in self._candidates(wanted):
            place = held or self._fetch(candidate, stopped)
            if self._is_of(wanted.patient, place):
                found.append(place)
            if len(found) == wanted.prior.count:
                return found
        if self._archive is None:
            raise _NotHere(f"{len(found)} of {wanted.prior.count} are here")
        return found

    def _fetch(self, candidate: Candidate, stopped: Callable[[], bool]) -> Place:
        """Have all that the archive lists of a series here. Raises PeerError, _NotHere."""
        if self._archive is None:
            raise _NotHere("nobody can be asked for it")
        archive, of = self._archive.archive, (candidate.StudyInstanceUID, candidate.SeriesInstanceUID)
        listed = archive.listed(*of)
        missing = sorted(listed - self._here(*of))
        problem = ""
        if missing:
            log.info("prior.fetching", SeriesInstanceUID=candidate.SeriesInstanceUID, instances=len(missing))
            try:
                archive.fetch(*of, missing, SOP_CLASSES, stopped)
            except PeerError as error:
                problem = f": {error}"
        note = f"{archive.name} lists these {len(listed)} instances, fetched as a prior"
        with self._database.begin() as tx:
            place = priors.complete_fetched(tx, *of, listed, note)
        if place is None:
            lacking = len(listed - self._here(*of))
            known = f"{archive.name} lists {len(listed)} instances"
            raise _NotHere(f"{known}, {lacking} of which are not here{problem}")
        return place

    def _here(self, StudyInstanceUID: str, SeriesInstanceUID: str) -> set[str]:
        with self._database.read() as tx:
            series_id = priors.held_series(tx, StudyInstanceUID, SeriesInstanceUID)
            return catalog.held_instances(tx, series_id) if series_id is not None else set()

    def _is_of(self, patient: Patient, place: Place) -> bool:
        """Whether the series itself says that it is of that patient, whatever any list says."""
        with self._database.read() as tx:
            instances = catalog.input_set(tx, *place)
        try:
            header = read_headers([self._objects.path(instances[0].sha256)])[0]
        except (Refused, OSError):
            return False
        same = patient_of(header).is_same(patient)
        if not same:
            log.warning("prior.of_other_patient", series=place[0])
        return same

    def _end(self, search: Search, problem: str) -> None:
        """The time is over: what is here has to do. Raises LeaseLost."""
        wanted = self._wanted(search)
        found: list[Place] = []
        if wanted is not None:
            held = self._held(wanted)
            latest = sorted(held, key=lambda each: each.order, reverse=True)
            found = [held[each] for each in latest if self._is_of(wanted.patient, held[each])]
            found = found[: wanted.prior.count]
        with self._database.read() as tx:
            problem = problem or priors.notes(tx, search.job_id).get(search.name, "")
        waited = f"after {self._limit_s:g} s {problem or 'none had come'}"
        self._settle(search, found, f"{self._said(found)}; {waited}" if found else waited)

    def _settle(self, search: Search, found: list[Place], note: str) -> None:
        with self._database.begin() as tx:
            if priors.settle(tx, search, found, note):
                freeze(tx, search.job_id)
                jobs.end_waiting(tx, search.job_id)
        log.info("prior.settled", prior=search.id, job=search.job_id, series=len(found))


def _latest_first(
    candidates: Iterable[tuple[Candidate, Place | None]],
) -> list[tuple[Candidate, Place | None]]:
    return sorted(candidates, key=lambda each: each[0].order, reverse=True)


class _NotHere(Exception):
    """A series that an archive lists is not, or not wholly, here."""
