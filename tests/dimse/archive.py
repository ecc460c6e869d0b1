"""Our receiver over a catalog of its own, with instances in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.dimse.find import find
from dicomnode.dimse.get import get
from dicomnode.dimse.move import move
from dicomnode.dimse.receiver import Receiver
from dicomnode.dimse.storage import storage
from dicomnode.dimse.verification import verification
from dicomnode.model.instance import AssociationFacts, Received
from dicomnode.model.peer import Peer
from dicomnode.services.find import Finder
from dicomnode.services.ingest import Ingest
from dicomnode.services.retrieve import Retriever
from dicomnode.store.objects import ObjectStore
from tests.dimse.nodes import AE_TITLE, SETTINGS, dataset_bytes, small_ct
from tests.harness.schema import upgraded

TEST = AssociationFacts("test", "TEST", AE_TITLE, "127.0.0.1")


class Archive:
    """What is kept, and where it can be asked for; `peers` are the known move destinations."""

    def __init__(self, folder: Path, peers: Iterable[Peer] = (), **settings: object) -> None:
        self.database = upgraded(f"sqlite:///{folder / 'archive.sqlite3'}")
        self.objects = ObjectStore(folder / "archive", 0)
        self.ingest = Ingest(self.database, self.objects)
        self.peers = {peer.ae_title: peer for peer in peers}
        retriever = Retriever(self.database, self.objects)
        finder = Finder(self.database, AE_TITLE)
        services = [
            verification(),
            storage(self.ingest.store),
            find(finder, finder.holds),
            move(retriever, self.peers.get, AE_TITLE),
            get(retriever),
        ]
        self.receiver = Receiver(replace(SETTINGS, **settings), services)

    @property
    def peer(self) -> Peer:
        return Peer(AE_TITLE, "127.0.0.1", self.receiver.port, response_timeout_s=20.0)

    def keep(self, ds: Dataset) -> Dataset:
        """Take an instance in, as if a C-STORE in Explicit VR Little Endian had brought it."""
        buffer = BytesIO()
        dcmwrite(buffer, ds, implicit_vr=False, little_endian=True, enforce_file_format=False)
        self._store(ds, ExplicitVRLittleEndian, buffer.getvalue())
        return ds

    def keep_file(self, path: Path) -> Dataset:
        """Take in the data set of a file as it is."""
        ds = dcmread(path)
        self._store(ds, str(ds.file_meta.TransferSyntaxUID), dataset_bytes(path))
        return ds

    def keep_study(self, PatientID: str = "P1", series: int = 2, instances: int = 3) -> list[Dataset]:
        """A study of CT series."""
        study = small_ct().StudyInstanceUID
        return [
            self.keep(
                small_ct(
                    PatientID=PatientID,
                    StudyInstanceUID=study,
                    SeriesInstanceUID=uid,
                    StudyDate="20240506",
                    StudyTime="101500",
                )
            )
            for uid in [small_ct().SeriesInstanceUID for _ in range(series)]
            for _ in range(instances)
        ]

    def _store(self, ds: Dataset, syntax: str, data: bytes) -> None:
        self.ingest.store(Received(TEST, str(ds.SOPClassUID), str(ds.SOPInstanceUID), syntax, data))


@contextmanager
def archive(folder: Path, peers: Iterable[Peer] = (), **settings: object) -> Iterator[Archive]:
    """An archive that listens while the block runs."""
    running = Archive(folder, peers, **settings)
    running.receiver.start()
    try:
        yield running
    finally:
        running.receiver.stop(limit_s=0.5)
        running.database.close()
