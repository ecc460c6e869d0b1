"""Which stored instances a retrieval means."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from dicomnode.store import catalog
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.retrieval import first_instance, stored_instances, were_removed
from dicomnode.store.schema import instance

from .builders import arrival


@pytest.fixture
def filled(database: Database) -> Database:
    with database.begin() as tx:
        for number, series in ((1, "1.2.3.4"), (2, "1.2.3.4"), (1, "1.2.3.5")):
            catalog.add_instance(tx, arrival(number, series=series))
    return database


def names(found) -> list[str]:
    return [each.SOPInstanceUID for each in found]


def test_instances_are_named_by_the_uids_of_any_level_one_or_a_list(filled: Database):
    with filled.read() as tx:
        assert names(stored_instances(tx, PatientID="P1")) == ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.5.1"]
        assert len(stored_instances(tx, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")) == 2
        wanted = [f"1.2.9.{number}" for number in range(2500)] + ["1.2.3.5.1", "1.2.3.4.1"]
        assert names(stored_instances(tx, SOPInstanceUID=wanted)) == ["1.2.3.4.1", "1.2.3.5.1"]
        assert stored_instances(tx, StudyInstanceUID="1.2.4") == []
        with pytest.raises(ValueError, match="which"):
            stored_instances(tx)


def test_an_instance_has_all_that_a_retrieval_needs(filled: Database):
    with filled.read() as tx:
        first = first_instance(tx, {"SeriesInstanceUID": "1.2.3.4"})
    assert first is not None
    stored = arrival(1).stored
    assert (first.sha256, first.size) == (stored.sha256, stored.size)
    assert (first.StudyInstanceUID, first.SeriesInstanceUID) == ("1.2.3", "1.2.3.4")
    assert first.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_what_retention_has_removed_is_known_and_not_retrieved(filled: Database):
    keys = {"SOPInstanceUID": "1.2.3.4.1"}
    with filled.begin() as tx:
        assert not were_removed(tx, keys)
        tx.execute(update(instance).where(instance.c.SOPInstanceUID == "1.2.3.4.1").values(removed_at=Now()))
    with filled.read() as tx:
        assert were_removed(tx, keys)
        assert stored_instances(tx, **keys) == []
        assert first_instance(tx, keys) is None
