"""A disk of 2 MB is filled to its last page: objects and SQLite are refused, nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicomnode.dimse.status import STATUS, status_of
from dicomnode.errors import StorageFailed, StorageFull, StoreError
from dicomnode.installation import Stores
from dicomnode.model.instance import Received
from dicomnode.services.ingest import Ingest
from dicomnode.services.recovery import recover
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore
from tests.faults.test_disk import fill, small_disk
from tests.faults.test_power_loss import digest_of, rows_of
from tests.harness.heads import small_series
from tests.services.test_ingest import received

PAGE = 4096


def test_a_disk_is_filled_to_its_last_page_and_used_again_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 2):
        stores = Stores(Database(f"sqlite:///{disk / 'node.sqlite3'}"), ObjectStore(disk / "data", 0))
        stores.database.upgrade()
        ingest = Ingest(stores.database, stores.objects)
        came = [received(ds) for ds in small_series(24)]
        refused = fill_up(ingest, came, disk)
        assert {type(error) for error in refused.values()} == {StorageFull, StorageFailed}
        assert {status_of(error) for error in refused.values()} == {STATUS[StorageFull]}
        acknowledged = [each for each in came if each.SOPInstanceUID not in refused]
        assert acknowledged
        check(stores, acknowledged)
        recover(stores.database, stores.objects)
        check(stores, acknowledged)
        (disk / "ballast").unlink()
        for each in [each for each in came if each.SOPInstanceUID in refused][:5]:
            ingest.store(each)
            check(stores, [*acknowledged, each])
        stores.database.close()


def fill_up(ingest: Ingest, came: Sequence[Received], disk: Path) -> dict[str, StoreError]:
    """Send all, each with a page more than the one before: its bytes find no room, or its row, or both do."""
    refused = {}
    for pages, each in enumerate(came):
        fill(disk / "ballast")
        with (disk / "ballast").open("r+b") as ballast:
            ballast.truncate((disk / "ballast").stat().st_size - pages * PAGE)
        try:
            ingest.store(each)
        except StoreError as error:
            refused[each.SOPInstanceUID] = error
    return refused


def check(stores: Stores, acknowledged: Sequence[Received]) -> None:
    rows = rows_of(stores)
    for each in acknowledged:
        assert rows[each.SOPInstanceUID] == digest_of(each)
        assert stores.objects.intact(digest_of(each))
    with stores.database.read() as tx:
        assert tx.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
