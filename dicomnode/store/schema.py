"""The tables as queries name them; `migrations/` is what creates them, and a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnClause,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    false,
    literal_column,
    text,
    true,
)

from dicomnode.model.query import fold_name
from dicomnode.model.searched import IMAGE_KEYWORDS, REQUEST_KEYWORDS, SERIES_KEYWORDS

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


def stated(name: str) -> ColumnClause[str]:
    """One of our own names in the words of a statement: the text that is sent needs not be made each time."""
    return literal_column(f"'{name}'", String())


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True)


def _ref(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Id, ForeignKey(f"{target}.id"), nullable=nullable)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, default="")


def _folded(name: str, keyword: str) -> Column[str]:
    """A person's name as it is searched, made from the name whenever a row is inserted."""

    def fold(context: Any) -> str:
        return fold_name(context.get_current_parameters().get(keyword) or "")

    return Column(name, Text, nullable=False, server_default="", default=fold)


def _at(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Instant, nullable=nullable)


def _timer(name: str, *, nullable: bool = False, server_default: Any = None) -> Column[Any]:
    """A moment that is waited for, or that a wait is measured from: it moves when the clock is set back."""
    return Column(name, Instant, nullable=nullable, server_default=server_default, info={"timer": True})


association = Table(
    "association",
    metadata,
    _id(),
    Column("key", String(64), nullable=False, unique=True),
    Column("calling_ae", String(64), nullable=False),
    Column("called_ae", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    _at("opened_at"),
    Column("asked", Boolean, nullable=False, server_default=false()),
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
    _text("TimezoneOffsetFromUTC"),
    _folded("patient_name_folded", "PatientName"),
    _folded("referring_physician_name_folded", "ReferringPhysicianName"),
    Column("patient_conflict", Boolean, nullable=False, default=False),
    _at("first_instance_at"),
    Index("ix_study_PatientID", "PatientID"),
    Index("ix_study_AccessionNumber", "AccessionNumber"),
    Index("ix_study_StudyDate", "StudyDate"),
    Index(
        "ix_study_patient_name_folded",
        "patient_name_folded",
        postgresql_ops={"patient_name_folded": "text_pattern_ops"},
    ),
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
    _text("PerformedProcedureStepStartDate"),
    _text("PerformedProcedureStepStartTime"),
    _text("ScheduledProcedureStepID"),
    _text("RequestedProcedureID"),
    Column("generation", Integer, nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("expected_instances", Integer),
    Column("minimum_instances", Integer),
    _ref("association_id", "association"),
    _at("first_instance_at"),
    _timer("last_instance_at"),
    _at("completed_at", nullable=True),
    UniqueConstraint("study_id", "SeriesInstanceUID"),
    Index("ix_series_SeriesInstanceUID", "SeriesInstanceUID"),
    Index("ix_series_completed_at", "completed_at"),
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
    Column("BitsAllocated", Integer),
    Column("generation", Integer, nullable=False),
    _ref("association_id", "association"),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    _at("received_at"),
    _at("released_at", nullable=True),
    _at("removed_at", nullable=True),
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
    Column("note", Text),
    UniqueConstraint("series_id", "generation"),
)
Index(
    "ix_completion_unrouted",
    completion.c.id,
    sqlite_where=completion.c.routed_at.is_(None),
    postgresql_where=completion.c.routed_at.is_(None),
)

inquiry = Table(
    "inquiry",
    metadata,
    _id(),
    _ref("series_id", "series"),
    Column("state", String(16), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("instance_count", Integer, nullable=False),
    _ref("association_id", "association"),
    Column("missing", Integer),
    Column("note", Text),
    _timer("begun_at"),
    _timer("not_before"),
    UniqueConstraint("series_id"),
)
Index(
    "ix_inquiry_asking",
    inquiry.c.not_before,
    sqlite_where=inquiry.c.state == "asking",
    postgresql_where=inquiry.c.state == "asking",
)

announced = Table(
    "announced",
    metadata,
    _id(),
    Column("SeriesInstanceUID", UIDText, nullable=False),
    Column("SOPInstanceUID", UIDText, nullable=False),
    _at("at"),
    UniqueConstraint("SeriesInstanceUID", "SOPInstanceUID"),
    Index("ix_announced_at", "at"),
)

performed_step = Table(
    "performed_step",
    metadata,
    _id(),
    Column("SOPInstanceUID", UIDText, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("series", JSON, nullable=False),
    _at("updated_at"),
    Index("ix_performed_step_updated_at", "updated_at"),
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
    _timer("lease_expires_at", nullable=True),
    _timer("not_before"),
    Column("reason_code", String(64)),
    Column("reason", Text),
    _at("created_at"),
    _at("updated_at"),
    Column("notify", JSON, nullable=False, server_default="[]"),
    Column("notice_due", Boolean, nullable=False, server_default=false()),
    Column(
        "urgent_at",
        Instant,
        nullable=False,
        info={"timer": True},
        server_default=text("'2000-01-01 00:00:00.000000'"),
    ),
    _timer("deadline_at", nullable=True),
    Column("shadow_of", Id),
    Index("ix_job_series_id", "series_id"),
)
Index("ix_job_notice_due", job.c.id, sqlite_where=job.c.notice_due, postgresql_where=job.c.notice_due)
JOB_WAITS = job.c.state.in_([stated("ready"), stated("retry_wait")])
"""In the words of the partial indexes, which is what makes a database use them."""
JOB_RUNS = job.c.state == stated("leased")
_in_time = and_(JOB_WAITS, job.c.deadline_at.is_not(None))
Index("ix_job_waiting", job.c.urgent_at, job.c.id, sqlite_where=JOB_WAITS, postgresql_where=JOB_WAITS)
Index("ix_job_deadline_at", job.c.deadline_at, sqlite_where=_in_time, postgresql_where=_in_time)
Index("ix_job_leased", job.c.lease_expires_at, sqlite_where=JOB_RUNS, postgresql_where=JOB_RUNS)

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
    Column("reported", Boolean, nullable=False, server_default=false()),
    Column("actor", Text),
    Index("ix_job_event_job_id", "job_id"),
)
Index(
    "ix_job_event_unreported",
    job_event.c.id,
    sqlite_where=~job_event.c.reported,
    postgresql_where=~job_event.c.reported,
)

prior = Table(
    "prior",
    metadata,
    _id(),
    _ref("job_id", "job"),
    Column("name", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("note", Text),
    _timer("begun_at"),
    _timer("not_before"),
    UniqueConstraint("job_id", "name"),
)
_sought = prior.c.state == "sought"
Index("ix_prior_sought", prior.c.not_before, sqlite_where=_sought, postgresql_where=_sought)

prior_series = Table(
    "prior_series",
    metadata,
    _id(),
    _ref("prior_id", "prior"),
    Column("place", Integer, nullable=False),
    _ref("series_id", "series"),
    Column("generation", Integer, nullable=False),
    UniqueConstraint("prior_id", "place"),
    Index("ix_prior_series_series_id", "series_id"),
)


def _version() -> tuple[Column[str], Column[str]]:
    return Column("version", String(64), nullable=False), Column("digest", String(64), nullable=False)


activation = Table(
    "activation",
    metadata,
    _id(),
    Column("pipeline", String(64), nullable=False),
    *_version(),
    _ref("earlier_id", "activation", nullable=True),
    Column("actor", Text, nullable=False),
    _at("at"),
    Index("ix_activation_pipeline", "pipeline", "id"),
)

shadow = Table(
    "shadow",
    metadata,
    _id(),
    Column("pipeline", String(64), nullable=False),
    *_version(),
    Column("percent", Float, nullable=False),
    Column("actor", Text, nullable=False),
    _at("at"),
    UniqueConstraint("pipeline", "digest"),
)

comparison = Table(
    "comparison",
    metadata,
    _id(),
    _ref("job_id", "job"),
    _ref("shadow_id", "job"),
    _at("compared_at", nullable=True),
    Column("found", JSON(none_as_null=True)),
    UniqueConstraint("shadow_id"),
    Index("ix_comparison_job_id", "job_id"),
)
_uncompared = comparison.c.compared_at.is_(None)
Index("ix_comparison_due", comparison.c.id, sqlite_where=_uncompared, postgresql_where=_uncompared)

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
    Column("pipeline", Text, nullable=False, server_default=""),
    Column("route", Text, nullable=False, server_default=""),
    Column("pipeline_digest", String(64), nullable=False, server_default=""),
    Column("memory_mb", Integer),
    Column("gpu_memory_mb", Integer),
    Index("ix_run_job_id", "job_id"),
    Index("ix_run_ended_at", "ended_at"),
)
RUN_DONE = run.c.outcome == stated("done")
Index("ix_run_done", run.c.pipeline, run.c.id, sqlite_where=RUN_DONE, postgresql_where=RUN_DONE)
RUN_MEASURED = run.c.memory_mb.is_not(None)
Index(
    "ix_run_measured",
    run.c.pipeline_digest,
    run.c.id,
    sqlite_where=RUN_MEASURED,
    postgresql_where=RUN_MEASURED,
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
    _at("released_at", nullable=True),
    _at("removed_at", nullable=True),
    Column("fence", Integer, nullable=False),
    Column("listed", Boolean, nullable=False),
    *map(_text, (*SERIES_KEYWORDS, *REQUEST_KEYWORDS, "InstanceNumber")),
    *(Column(keyword, Integer) for keyword in IMAGE_KEYWORDS),
    UniqueConstraint("job_id", "ordinal"),
    Index("ix_result_sha256", "sha256"),
    Index("ix_result_StudyInstanceUID", "StudyInstanceUID"),
    Index("ix_result_SeriesInstanceUID", "SeriesInstanceUID"),
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
    _timer("lease_expires_at", nullable=True),
    _timer("not_before"),
    Column("reason", Text),
    _at("created_at"),
    _at("updated_at"),
    Column("announced", Boolean, nullable=False, default=False, server_default=true()),
    UniqueConstraint("result_id", "destination"),
    Index("ix_delivery_claim", "destination", "state", "not_before"),
)
DELIVERY_SENDING = delivery.c.state == stated("sending")
Index(
    "ix_delivery_sending",
    delivery.c.lease_expires_at,
    sqlite_where=DELIVERY_SENDING,
    postgresql_where=DELIVERY_SENDING,
)
_unannounced = and_(delivery.c.state == "confirmed", ~delivery.c.announced)
Index("ix_delivery_unannounced", delivery.c.id, sqlite_where=_unannounced, postgresql_where=_unannounced)

availability = Table(
    "availability",
    metadata,
    _id(),
    Column("SOPInstanceUID", UIDText, nullable=False),
    _ref("job_id", "job"),
    Column("peer", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    _timer("not_before"),
    Column("reason", Text),
    _at("created_at"),
    Index("ix_availability_claim", "peer", "state", "not_before"),
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

for _table in (instance, result):
    _leaving = and_(_table.c.released_at.is_not(None), _table.c.removed_at.is_(None))
    Index(f"ix_{_table.name}_leaving", _table.c.id, sqlite_where=_leaving, postgresql_where=_leaving)

commitment = Table(
    "commitment",
    metadata,
    _id(),
    Column("TransactionUID", UIDText, nullable=False),
    Column("direction", String(8), nullable=False),
    Column("peer", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    _timer("lease_expires_at", nullable=True),
    _timer("not_before"),
    Column("reason", Text),
    _at("created_at"),
    _at("updated_at"),
    UniqueConstraint("direction", "peer", "TransactionUID"),
    Index("ix_commitment_claim", "direction", "state", "not_before"),
)

commitment_event = Table(
    "commitment_event",
    metadata,
    _id(),
    _ref("commitment_id", "commitment"),
    Column("event", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("detail", Text),
    _at("at"),
    Index("ix_commitment_event_commitment_id", "commitment_id"),
)

commitment_instance = Table(
    "commitment_instance",
    metadata,
    _id(),
    _ref("commitment_id", "commitment"),
    Column("SOPClassUID", UIDText, nullable=False),
    Column("SOPInstanceUID", UIDText, nullable=False),
    _ref("delivery_id", "delivery", nullable=True),
    Column("delivery_fence", Integer),
    Column("failure_reason", Integer),
    Index("ix_commitment_instance_commitment_id", "commitment_id"),
    Index("ix_commitment_instance_SOPInstanceUID", "SOPInstanceUID"),
    Index("ix_commitment_instance_delivery_id", "delivery_id"),
)

workitem = Table(
    "workitem",
    metadata,
    _id(),
    Column("SOPInstanceUID", UIDText, nullable=False, unique=True),
    Column("ProcedureStepState", String(16), nullable=False),
    Column("InputReadinessState", String(16), nullable=False),
    Column("ScheduledProcedureStepPriority", String(16), nullable=False),
    _at("start_at"),
    Column("pipeline", String(64), nullable=False),
    _text("ScheduledProcedureStepStartDateTime"),
    _text("WorklistLabel"),
    _text("ProcedureStepLabel"),
    _text("PatientID"),
    _text("PatientName"),
    _text("StudyInstanceUID"),
    _text("AccessionNumber"),
    _folded("patient_name_folded", "PatientName"),
    Column("attributes", JSON, nullable=False),
    Column("send_to", JSON(none_as_null=True)),
    Column("reason_code", String(64)),
    Column("reason", Text),
    _at("created_at"),
    _at("modified_at"),
    _at("started_at", nullable=True),
    _at("ended_at", nullable=True),
    *(
        Index(f"ix_workitem_{name}", name, "id")
        for name in ("ProcedureStepState", "StudyInstanceUID", "PatientID", "AccessionNumber")
    ),
)

workitem_input = Table(
    "workitem_input",
    metadata,
    _id(),
    _ref("workitem_id", "workitem"),
    Column("StudyInstanceUID", UIDText, nullable=False),
    Column("SeriesInstanceUID", UIDText, nullable=False),
    Column("waiting", Boolean, nullable=False),
    Column("lacking_generation", Integer, nullable=False, server_default="0"),
    _ref("job_id", "job", nullable=True),
    Index("ix_workitem_input_workitem_id", "workitem_id"),
    Index("ix_workitem_input_job_id", "job_id"),
)
Index(
    "ix_workitem_input_waiting",
    workitem_input.c.id,
    sqlite_where=workitem_input.c.waiting,
    postgresql_where=workitem_input.c.waiting,
)

subscriber = Table(
    "subscriber",
    metadata,
    Column("ae_title", String(16), primary_key=True),
    Column("connection", String(64), nullable=False),
)

worklist_subscription = Table(
    "worklist_subscription",
    metadata,
    _id(),
    Column("ae_title", String(16), nullable=False),
    Column("filtered", Boolean, nullable=False),
    Column("filter", JSON, nullable=False),
    UniqueConstraint("ae_title", "filtered"),
)

subscription = Table(
    "subscription",
    metadata,
    _id(),
    _ref("workitem_id", "workitem"),
    Column("ae_title", String(16), nullable=False),
    UniqueConstraint("workitem_id", "ae_title"),
    Index("ix_subscription_ae_title", "ae_title"),
)

notification = Table(
    "notification",
    metadata,
    _id(),
    Column("ae_title", String(16), nullable=False),
    Column("report", JSON, nullable=False),
    _at("at"),
    Index("ix_notification_ae_title", "ae_title", "id"),
    sqlite_autoincrement=True,
)

listener = Table(
    "listener",
    metadata,
    Column("name", String(64), primary_key=True),
    _timer("since"),
    _timer("seen_at"),
)

pause = Table(
    "pause",
    metadata,
    _id(),
    Column("kind", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    _at("at"),
    UniqueConstraint("kind", "name"),
)

worker = Table(
    "worker",
    metadata,
    Column("name", String(128), primary_key=True),
    _timer("since"),
    _timer("seen_at"),
    Column("host", Text, nullable=False, server_default=""),
    Column("device", Text, nullable=False, server_default=""),
    Column("pipeline", Text),
    Column("pipeline_digest", String(64)),
    Column("held_host_mb", Integer, nullable=False, server_default="0"),
    Column("held_device_mb", Integer, nullable=False, server_default="0"),
    _at("held_since", nullable=True),
    Column("leaving", Boolean, nullable=False, server_default=false()),
    Index("ix_worker_host", "host"),
)

device = Table(
    "device",
    metadata,
    Column("host", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("host_mb", Integer, nullable=False),
    Column("device_mb", Integer, nullable=False),
    _timer("seen_at"),
)

bundle = Table(
    "bundle",
    metadata,
    Column("pipeline_digest", String(64), primary_key=True),
    Column("declared_mb", Integer, nullable=False),
    Column("declared_gpu_mb", Integer, nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("gpu_memory_mb", Integer, nullable=False),
)

clock = Table("clock", metadata, Column("id", Integer, primary_key=True), _at("seen_at"))

identity = Table("identity", metadata, Column("uid", String(64), primary_key=True))

audit = Table(
    "audit",
    metadata,
    _id(),
    Column("event", String(32), nullable=False),
    Column("facts", JSON, nullable=False),
    _at("at"),
)
