"""The schema comes from the migrations alone, and a commit is durable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text

from dicomnode.errors import ConfigError, DiskFailed, SchemaMismatch, StorageFailed
from dicomnode.model.job import HEAD_START_S, Priority
from dicomnode.store import audit
from dicomnode.store.clock import read_clock
from dicomnode.store.database import Database
from dicomnode.store.schema import job, metadata, result, run


def test_the_migrations_make_exactly_the_tables_that_queries_name(empty_database_url: str):
    database = Database(empty_database_url)
    database.upgrade()
    with database.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_an_upgrade_that_is_not_needed_changes_nothing(database: Database):
    before = database.schema_status()
    database.upgrade()
    assert database.schema_status() == before
    assert before.current


def test_an_unknown_schema_is_refused_by_name(database: Database):
    with database.begin() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="9999"):
        database.require_schema()


def test_an_empty_database_is_refused_until_it_is_upgraded(empty_database_url: str):
    database = Database(empty_database_url)
    with pytest.raises(SchemaMismatch, match="none"):
        database.require_schema()
    database.close()


def test_the_clock_is_the_databases_and_says_its_time_zone(database: Database):
    with database.read() as tx:
        now = read_clock(tx)
    assert now.tzinfo is not None
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_failed_transaction_leaves_nothing_behind(database: Database):
    def write_and_fail() -> None:
        with database.begin() as tx:
            audit.record(tx, "something", {})
            tx.exec_driver_sql("SELECT * FROM no_such_table")

    with pytest.raises(StorageFailed):
        write_and_fail()
    with database.read() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM audit").scalar_one() == 0


def test_sqlite_syncs_each_commit_and_lets_readers_pass(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'd.sqlite3'}")
    with database.read() as tx:
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert tx.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
    database.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgres//nobody:secret@host", "is no SQLAlchemy URL"),
        ("oracledb+what://u:secret@host/d", "no driver"),
        ("mysql://u:secret@host/d", "sqlite or postgresql"),
    ],
)
def test_a_url_that_leads_nowhere_is_named_without_its_password(url: str, told: str):
    with pytest.raises(ConfigError) as raised:
        Database(url)
    assert "database.url: " in str(raised.value)
    assert told in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_database_file_that_is_broken_is_the_disks_failure(tmp_path):
    file = tmp_path / "d.sqlite3"
    database = Database(f"sqlite:///{file}")
    database.upgrade()
    database.close()
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
    with pytest.raises(DiskFailed), database.read() as tx:
        tx.exec_driver_sql("SELECT * FROM study, series, job")


def test_an_upgrade_orders_the_jobs_that_are_there_by_their_priority(empty_database_url: str):
    database = Database(empty_database_url)
    with database.begin() as tx:
        config = database._alembic()
        config.attributes["connection"] = tx
        command.upgrade(config, "0007")
        for table in ("association", "study", "series", "completion", "job", "run"):
            tx.exec_driver_sql(OLD_ROWS[table])
    database.upgrade()
    with database.read() as tx:
        rows = tx.execute(select(job.c.priority, job.c.created_at, job.c.urgent_at).order_by(job.c.id)).all()
        assert tx.execute(select(run.c.pipeline, run.c.route)).one() == ("brain", "r")
    heads = [(row.created_at - row.urgent_at).total_seconds() for row in rows]
    assert heads == [HEAD_START_S[tuple(Priority)[row.priority]] for row in rows]
    database.close()


def test_an_upgrade_lists_the_results_that_are_there_by_their_kind_and_in_one_form(empty_database_url: str):
    database = Database(empty_database_url)
    with database.begin() as tx:
        config = database._alembic()
        config.attributes["connection"] = tx
        command.upgrade(config, "0007")
        for table in ("association", "study", "series", "completion", "job"):
            tx.exec_driver_sql(OLD_ROWS[table])
        tx.exec_driver_sql("UPDATE job SET state = 'done', fence = 3 WHERE id = 1")
        tx.exec_driver_sql("""UPDATE series SET "Modality" = 'CT'""")
        command.upgrade(config, "0012")
        rows = [{"id": n, "role": role, "to": to} for n, (role, to) in enumerate(OLD_RESULTS, 1)]
        tx.execute(OLD_RESULT, rows)
        tx.execute(OLD_DELIVERY, rows)
    database.upgrade()
    with database.read() as tx:
        rows = tx.execute(select(result).order_by(result.c.id)).all()
    assert [(row.Modality, row.listed, row.fence) for row in rows] == [
        ("SR", True, 0),
        ("KO", False, 3),
        ("SEG", True, 3),
        ("CT", True, 3),
        ("CT", True, 3),
        ("SEG", False, 3),
    ]
    database.close()


OLD_RESULTS = (
    ("NOTICE", "pacs"),
    ("WITHDRAWAL", "pacs"),
    ("SEG", "pacs"),
    ("DERIVED", "pacs"),
    ("DERIVED", "pacs"),
    ("SEG", "viewer"),
)
"""A notice of a job that was started again, and what it made then, in two forms; with their destinations."""
OLD_RESULT = text(
    """INSERT INTO result (id, job_id, ordinal, role, "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID",
    "SOPInstanceUID", "TransferSyntaxUID", sha256, size, created_at)
    VALUES (:id, 1, :id, :role, '1.2', '1.2.9', '1', '1.2.9.' || CAST(:id AS TEXT), '1', 'd', 1,
    CURRENT_TIMESTAMP)"""
)
OLD_DELIVERY = text(
    """INSERT INTO delivery (id, result_id, destination, state, fence, attempt, checks, not_before,
    created_at, updated_at)
    VALUES (:id, :id, :to, 'confirmed', 1, 1, 0, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"""
)

OLD_ROWS = {
    "association": "INSERT INTO association VALUES (1, 'k', 'a', 'b', 'c', CURRENT_TIMESTAMP)",
    "study": """INSERT INTO study (id, "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate",
        "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription",
        "ReferringPhysicianName", "TimezoneOffsetFromUTC", patient_conflict, first_instance_at)
        VALUES (1, '1.2', '', '', '', '', '', '', '', '', '', '', '', false, CURRENT_TIMESTAMP)""",
    "series": """INSERT INTO series (id, study_id, "SeriesInstanceUID", "Modality", "SeriesNumber",
        "SeriesDescription", "BodyPartExamined", "SeriesDate", "SeriesTime",
        "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "ScheduledProcedureStepID",
        "RequestedProcedureID", generation, instance_count, association_id, first_instance_at,
        last_instance_at) VALUES (1, 1, '1.2.3', '', '', '', '', '', '', '', '', '', '', 1, 1, 1,
        CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)""",
    "completion": """INSERT INTO completion (id, series_id, generation, reason, instance_count, completed_at)
        VALUES (1, 1, 1, 'quiet', 1, CURRENT_TIMESTAMP)""",
    "job": """INSERT INTO job (id, key, completion_id, series_id, generation, input_digest, route, pipeline,
        pipeline_version, pipeline_digest, priority, send_to, state, fence, attempt, not_before, created_at,
        updated_at) SELECT rank + 1, 'k' || rank, 1, 1, 1, 'd', 'r', 'brain', '1', 'd', rank, '[]', 'ready',
        0, 0, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP
        FROM (SELECT 0 AS rank UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) AS ranks""",
    "run": """INSERT INTO run (id, job_id, fence, worker, started_at, ended_at, outcome, timings)
        VALUES (1, 1, 1, 'w', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, 'done', '{}')""",
}
"""As revision 0007 had them."""
