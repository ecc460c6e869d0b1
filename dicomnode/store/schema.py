"""The tables as queries name them; `migrations/` is what creates them, and a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")
UIDText = String(64)


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, time-zone-aware in Python on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite keeps UTC without saying so."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  the base class gives it
        """Always in UTC, always saying so."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True)


def _ref(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Id, ForeignKey(f"{target}.id"), nullable=nullable)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, default="")


def _at(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Instant, nullable=nullable)


association = Table(
    "association",
    metadata,
    _id(),
    Column("key", String(64), nullable=False, unique=True),
    Column("calling_ae", String(64), nullable=False),
    Column("called_ae", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    _at("opened_at"),
)

study = Table(
    "study",
    metadata,
    _id(),
    Column("StudyInstanceUID", UIDText, nullable=False, unique=True),
    _text("PatientID"),
    _text("PatientName"),
    _text("PatientBirthDate"),
    _text("PatientSex"),
    _text("StudyDate"),
    _text("StudyTime"),
    _text("StudyID"),
    _text("AccessionNumber"),
    _text("StudyDescription"),
    _text("ReferringPhysicianName"),
    Column("patient_conflict", Boolean, nullable=False, default=False),
    _at("first_instance_at"),
    Index("ix_study_PatientID", "PatientID"),
    Index("ix_study_AccessionNumber", "AccessionNumber"),
    Index("ix_study_StudyDate", "StudyDate"),
)

series = Table(
    "series",
    metadata,
    _id(),
    _ref("study_id", "study"),
    Column("SeriesInstanceUID", UIDText, nullable=False),
    _text("Modality"),
    _text("SeriesNumber"),
    _text("SeriesDescription"),
    _text("BodyPartExamined"),
    _text("SeriesDate"),
    _text("SeriesTime"),
    Column("generation", Integer, nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("expected_instances", Integer),
    Column("minimum_instances", Integer),
    _ref("association_id", "association"),
    _at("first_instance_at"),
    _at("last_instance_at"),
    _at("completed_at", nullable=True),
    UniqueConstraint("study_id", "SeriesInstanceUID"),
    Index("ix_series_SeriesInstanceUID", "SeriesInstanceUID"),
)
Index(
    "ix_series_open",
    series.c.last_instance_at,
    sqlite_where=series.c.completed_at.is_(None),
    postgresql_where=series.c.completed_at.is_(None),
)

instance = Table(
    "instance",
    metadata,
    _id(),
    _ref("series_id", "series"),
    Column("SOPInstanceUID", UIDText, nullable=False),
    Column("SOPClassUID", UIDText, nullable=False),
    Column("TransferSyntaxUID", UIDText, nullable=False),
    _text("InstanceNumber"),
    Column("Rows", Integer),
    Column("Columns", Integer),
    Column("NumberOfFrames", Integer),
    Column("generation", Integer, nullable=False),
    _ref("association_id", "association"),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    _at("received_at"),
    UniqueConstraint("series_id", "SOPInstanceUID"),
    Index("ix_instance_SOPInstanceUID", "SOPInstanceUID"),
    Index("ix_instance_sha256", "sha256"),
)

completion = Table(
    "completion",
    metadata,
    _id(),
    _ref("series_id", "series"),
    Column("generation", Integer, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("instance_count", Integer, nullable=False),
    _at("completed_at"),
    _at("routed_at", nullable=True),
    UniqueConstraint("series_id", "generation"),
)
Index(
    "ix_completion_unrouted",
    completion.c.id,
    sqlite_where=completion.c.routed_at.is_(None),
    postgresql_where=completion.c.routed_at.is_(None),
)

job = Table(
    "job",
    metadata,
    _id(),
    Column("key", String(64), nullable=False, unique=True),
    _ref("completion_id", "completion"),
    _ref("series_id", "series"),
    Column("generation", Integer, nullable=False),
    Column("input_digest", String(64), nullable=False),
    Column("route", Text, nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("pipeline_version", String(64), nullable=False),
    Column("pipeline_digest", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("send_to", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease_owner", Text),
    _at("lease_expires_at", nullable=True),
    _at("not_before"),
    Column("reason_code", String(64)),
    Column("reason", Text),
    _at("created_at"),
    _at("updated_at"),
    Column("notify", JSON, nullable=False, server_default="[]"),
    Column("notice_due", Boolean, nullable=False, server_default=false()),
    Index("ix_job_claim", "state", "priority", "not_before"),
    Index("ix_job_series_id", "series_id"),
)
Index("ix_job_notice_due", job.c.id, sqlite_where=job.c.notice_due, postgresql_where=job.c.notice_due)

job_event = Table(
    "job_event",
    metadata,
    _id(),
    _ref("job_id", "job"),
    Column("event", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("detail", Text),
    _at("at"),
    Index("ix_job_event_job_id", "job_id"),
)

routing = Table(
    "routing",
    metadata,
    _id(),
    _ref("completion_id", "completion"),
    Column("route", Text, nullable=False),
    Column("matched", Boolean, nullable=False),
    Column("note", Text),
    _ref("job_id", "job", nullable=True),
    _at("at"),
    UniqueConstraint("completion_id", "route"),
)

run = Table(
    "run",
    metadata,
    _id(),
    _ref("job_id", "job"),
    Column("fence", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    _at("started_at"),
    _at("ended_at"),
    Column("outcome", String(64), nullable=False),
    Column("timings", JSON, nullable=False),
    Index("ix_run_job_id", "job_id"),
)

result = Table(
    "result",
    metadata,
    _id(),
    _ref("job_id", "job"),
    Column("ordinal", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("StudyInstanceUID", UIDText, nullable=False),
    Column("SeriesInstanceUID", UIDText, nullable=False),
    Column("SOPClassUID", UIDText, nullable=False),
    Column("SOPInstanceUID", UIDText, nullable=False, unique=True),
    Column("TransferSyntaxUID", UIDText, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    _at("created_at"),
    UniqueConstraint("job_id", "ordinal"),
    Index("ix_result_sha256", "sha256"),
)

delivery = Table(
    "delivery",
    metadata,
    _id(),
    _ref("result_id", "result"),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("checks", Integer, nullable=False),
    _at("lease_expires_at", nullable=True),
    _at("not_before"),
    Column("reason", Text),
    _at("created_at"),
    _at("updated_at"),
    UniqueConstraint("result_id", "destination"),
    Index("ix_delivery_claim", "destination", "state", "not_before"),
)

delivery_event = Table(
    "delivery_event",
    metadata,
    _id(),
    _ref("delivery_id", "delivery"),
    Column("event", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("detail", Text),
    _at("at"),
    Index("ix_delivery_event_delivery_id", "delivery_id"),
)

listener = Table(
    "listener",
    metadata,
    Column("name", String(64), primary_key=True),
    _at("since"),
    _at("seen_at"),
)

identity = Table("identity", metadata, Column("uid", String(64), primary_key=True))

audit = Table(
    "audit",
    metadata,
    _id(),
    Column("event", String(32), nullable=False),
    Column("facts", JSON, nullable=False),
    _at("at"),
)
