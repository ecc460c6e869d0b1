"""A work item as a data set: what it was created with, and what its jobs make of it (PS3.3 B.26, C.30)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from pydicom.dataset import Dataset

from dicomnode.config import Config
from dicomnode.dicomweb.dicom_json import to_json
from dicomnode.model.job import Job, JobState
from dicomnode.model.workitem import (
    FINAL,
    UPS_PUSH,
    Attributes,
    Input,
    Output,
    StepState,
    WorkItem,
)
from dicomnode.services.workitem_items import code, parameter, pipeline_code, references, station, written
from dicomnode.store import jobs, workitem_inputs
from dicomnode.store.database import Transaction

_INPUTS = "00404021"
_MEANING = {
    "110501": "Equipment failure",
    "110513": "Discontinued for unspecified reason",
    "110522": "Object Types not supported",
}
DISCONTINUED: Mapping[JobState, str] = {
    JobState.REFUSED: "110522",
    JobState.DEAD: "110501",
    JobState.CANCELLED: "110513",
}
"""Why a step ends without its result: codes of DCM (PS3.16 CID 9302)."""
_WORDS = {
    JobState.HELD: "held for an administrator",
    JobState.READY: "queued",
    JobState.LEASED: "running",
    JobState.RETRY_WAIT: "waits for another attempt",
    JobState.DONE: "done",
    JobState.REFUSED: "refused",
    JobState.DEAD: "failed",
    JobState.CANCELLED: "cancelled",
}


class WorkItemModel:
    """Makes data sets of rows; `config` names the node and where destinations are."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def describe(self, tx: Transaction, items: Sequence[WorkItem], *, whole: bool) -> list[Attributes]:
        """The data sets in the JSON model; without inputs and outputs where not the `whole` is wanted."""
        inputs = workitem_inputs.inputs(tx, [item.id for item in items])
        named = [given.job_id for each in inputs.values() for given in each if given.job_id is not None]
        known = jobs.get_all(tx, named)
        described = []
        for item in items:
            given = inputs[item.id]
            works = [known[each.job_id] for each in given if each.job_id is not None]
            ds = self._told(item, given, works)
            if whole:
                self._add_instances(tx, ds, item, works)
            described.append(dict(sorted({**item.attributes, **to_json(ds)}.items())))
        return described

    def _told(self, item: WorkItem, inputs: Sequence[Input], works: Sequence[Job]) -> Dataset:
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.SOPClassUID, ds.SOPInstanceUID = UPS_PUSH, item.SOPInstanceUID
        ds.ScheduledProcedureStepPriority = item.priority
        ds.ScheduledProcedureStepModificationDateTime = written(item.modified_at)
        ds.InputReadinessState, ds.ProcedureStepState = item.readiness, item.state
        ds.ProcedureStepProgressInformationSequence = [progress(item, inputs, works)]
        ds.UnifiedProcedureStepPerformedProcedureSequence = (
            [] if item.started_at is None else [self._performed(item, works)]
        )
        return ds

    def _performed(self, item: WorkItem, works: Sequence[Job]) -> Dataset:
        ds = Dataset()
        ds.PerformedStationNameCodeSequence = [station(self._config.node.ae_title)]
        ds.PerformedWorkitemCodeSequence = [pipeline_code(item.pipeline)]
        ds.PerformedProcessingParametersSequence = [
            parameter(name, text)
            for work in works
            for name, text in (("version", work.pipeline_version), ("digest", work.pipeline_digest))
        ]
        if item.started_at is not None:
            ds.PerformedProcedureStepStartDateTime = written(item.started_at)
        if item.ended_at is not None:
            ds.PerformedProcedureStepEndDateTime = written(item.ended_at)
        ds.OutputInformationSequence = []
        return ds

    def _add_instances(self, tx: Transaction, ds: Dataset, item: WorkItem, works: Sequence[Job]) -> None:
        if _INPUTS not in item.attributes:
            ds.InputInformationSequence = [self._input(tx, work) for work in works]
        if item.started_at is None:
            return
        made = workitem_inputs.outputs(tx, [work.id for work in works])
        if item.state is StepState.CANCELED:
            # A job that begins anew has results that are another work item's.
            made = [each for each in made if each.created_at <= item.modified_at]
        performed = ds.UnifiedProcedureStepPerformedProcedureSequence[0]
        performed.OutputInformationSequence = self._outputs(made)

    def _input(self, tx: Transaction, work: Job) -> Dataset:
        instances = workitem_inputs.input_instances(tx, work.series_id, work.generation)
        ds = references(work.StudyInstanceUID, work.SeriesInstanceUID, instances)
        here = Dataset()
        here.RetrieveAETitle = self._config.node.ae_title
        ds.DICOMRetrievalSequence = [here]
        return ds

    def _outputs(self, made: Sequence[Output]) -> list[Dataset]:
        """An item for each series, with where it is sent (PS3.3 table 10-3b)."""
        found = []
        for _, same in groupby(made, key=lambda each: each.SeriesInstanceUID):
            of_series = list(same)
            first = of_series[0]
            instances = [(each.SOPClassUID, each.SOPInstanceUID) for each in of_series]
            ds = references(first.StudyInstanceUID, first.SeriesInstanceUID, instances)
            self._add_places(ds, first)
            found.append(ds)
        return found

    def _add_places(self, ds: Dataset, output: Output) -> None:
        titles, urls = [], []
        for name in output.destinations:
            entry = self._config.destination_named(name)
            if entry is not None and entry.dimse is not None:
                place = Dataset()
                place.RetrieveAETitle = entry.dimse.ae_title
                titles.append(place)
            if entry is not None and entry.web is not None:
                place = Dataset()
                place.RetrieveURL = (
                    f"{entry.web.url}/studies/{output.StudyInstanceUID}/series/{output.SeriesInstanceUID}"
                )
                urls.append(place)
        if titles:
            ds.DICOMRetrievalSequence = titles
        if urls:
            ds.WADORSRetrievalSequence = urls


def progress(item: WorkItem, inputs: Sequence[Input], works: Sequence[Job]) -> Dataset:
    """How far it is, and why it was cancelled where it was (PS3.3 C.30.1)."""
    ds = Dataset()
    done = sum(work.state is JobState.DONE for work in works)
    ds.ProcedureStepProgress = str(round(100 * done / max(1, len(inputs))))
    ds.ProcedureStepProgressDescription = _in_words(item, inputs, works)
    if item.state is StepState.CANCELED:
        if item.ended_at is not None:
            ds.ProcedureStepCancellationDateTime = written(item.ended_at)
        add_reason(ds, item)
    return ds


def add_reason(ds: Dataset, item: WorkItem) -> None:
    """Why a step was cancelled, in words and as a code."""
    code_value = item.reason_code or "110513"
    ds.ReasonForCancellation = item.reason or "no reason was recorded"
    ds.ProcedureStepDiscontinuationReasonCodeSequence = [code(code_value, "DCM", _MEANING[code_value])]


def _in_words(item: WorkItem, inputs: Sequence[Input], works: Sequence[Job]) -> str:
    """An administrator's words for the jobs; once all is over, for how it ended."""
    if item.state in FINAL:
        return item.state.lower()
    words = ["waits for its input"] * sum(given.waiting for given in inputs)
    for work in works:
        attempt = f", attempt {work.attempt}" if work.state is JobState.LEASED else ""
        reason = f": {work.reason}" if work.reason else ""
        words.append(f"{_WORDS[work.state]}{attempt}{reason}")
    return "; ".join(words)[:1024]
