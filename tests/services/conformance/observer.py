"""An application entity that takes everything and writes down what is proposed to it."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

from dicomnode.dimse.commitment import report
from dicomnode.model.commitment import CommitmentReport, Reference
from dicomnode.model.peer import Peer
from tests.services.conformance.stated import Proposed

SCP = "SCP by role selection"


class Observer:
    """An archive under any AE title: it lists what it has, and commits itself to everything, to `node`."""

    node: Peer

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._proposed: defaultdict[str, set[Proposed]] = defaultdict(set)
        self._listed: dict[str, str] = {}
        self._modalities: Counter[str] = Counter()
        self._reports = ThreadPoolExecutor(1)
        ae = AE("OBSERVER")
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ae.add_supported_context(InstanceAvailabilityNotification)
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self._server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[
                (evt.EVT_REQUESTED, self._note),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_C_FIND, self._find),
                (evt.EVT_N_ACTION, self._commit),
                (evt.EVT_N_EVENT_REPORT, lambda _: (0x0000, None)),
                (evt.EVT_N_CREATE, lambda _: (0x0000, None)),
            ],
        )
        self.port = self._server.socket.getsockname()[1]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._reports.shutdown()

    def proposed(self, *called_ae: str) -> set[Proposed]:
        """Every presentation context so far in associations that called these AE titles."""
        with self._lock:
            return set().union(*(self._proposed[title] for title in called_ae))

    def stored(self, modality: str, at_least: int) -> bool:
        """Whether so many instances have come."""
        return self._modalities[modality] >= at_least

    def _note(self, event: Event) -> None:
        requestor = event.assoc.requestor
        roles = {uid: item.scp_role and not item.scu_role for uid, item in requestor.role_selection.items()}
        contexts = {
            Proposed(
                str(context.abstract_syntax),
                tuple(map(str, context.transfer_syntax)),
                SCP if roles.get(context.abstract_syntax) else "SCU",
            )
            for context in requestor.primitive.presentation_context_definition_list
        }
        with self._lock:
            self._proposed[requestor.primitive.called_ae_title.strip()] |= contexts

    def _store(self, event: Event) -> int:
        ds = event.dataset
        with self._lock:
            self._listed[ds.SOPInstanceUID] = ds.SeriesInstanceUID
            self._modalities[ds.Modality] += 1
        return 0x0000

    def _commit(self, event: Event) -> tuple[int, None]:
        """Everything, with a report on an association of its own."""
        asked = event.action_information
        committed = [
            Reference(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
            for item in asked.ReferencedSOPSequence
        ]
        said = CommitmentReport(asked.TransactionUID, committed, [])
        title = event.assoc.requestor.primitive.called_ae_title.strip()
        self._reports.submit(report, self.node, title, said)
        return 0x0000, None

    def _find(self, event: Event) -> object:
        asked = event.identifier
        for uid, series in list(self._listed.items()):
            if series == asked.SeriesInstanceUID:
                found = Dataset()
                found.QueryRetrieveLevel = "IMAGE"
                found.StudyInstanceUID, found.SeriesInstanceUID = asked.StudyInstanceUID, series
                found.SOPInstanceUID = uid
                yield 0xFF00, found
        yield 0x0000, None
