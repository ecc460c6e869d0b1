"""Work items (unified procedure steps), who is told of them, and what was not told yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_workitem()
    _create_inputs()
    _create_subscriptions()
    # Every job so far becomes a work item as its events are read, from its creation on.
    op.add_column("job_event", sa.Column("reported", sa.Boolean(), nullable=False, server_default=sa.false()))
    unreported = sa.text("NOT reported")
    op.create_index(
        "ix_job_event_unreported", "job_event", ["id"], sqlite_where=unreported, postgresql_where=unreported
    )


def _create_workitem() -> None:
    op.create_table(
        "workitem",
        sa.Column("id", ID, nullable=False),
        sa.Column("SOPInstanceUID", sa.String(length=64), nullable=False),
        sa.Column("ProcedureStepState", sa.String(length=16), nullable=False),
        sa.Column("InputReadinessState", sa.String(length=16), nullable=False),
        sa.Column("ScheduledProcedureStepPriority", sa.String(length=16), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in (
                "ScheduledProcedureStepStartDateTime",
                "WorklistLabel",
                "ProcedureStepLabel",
                "PatientID",
                "PatientName",
                "StudyInstanceUID",
                "AccessionNumber",
            )
        ),
        sa.Column("patient_name_folded", sa.Text(), nullable=False, server_default=""),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("send_to", sa.JSON(), nullable=True),
        sa.Column("reason_code", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workitem")),
        sa.UniqueConstraint("SOPInstanceUID", name=op.f("uq_workitem_SOPInstanceUID")),
    )
    for name in ("ProcedureStepState", "StudyInstanceUID", "PatientID", "AccessionNumber"):
        op.create_index(f"ix_workitem_{name}", "workitem", [name, "id"])


def _create_inputs() -> None:
    op.create_table(
        "workitem_input",
        sa.Column("id", ID, nullable=False),
        sa.Column("workitem_id", ID, nullable=False),
        sa.Column("StudyInstanceUID", sa.String(length=64), nullable=False),
        sa.Column("SeriesInstanceUID", sa.String(length=64), nullable=False),
        sa.Column("waiting", sa.Boolean(), nullable=False),
        sa.Column("lacking_generation", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("job_id", ID, nullable=True),
        sa.ForeignKeyConstraint(["workitem_id"], ["workitem.id"], name=op.f("fk_workitem_input_workitem_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_workitem_input_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workitem_input")),
    )
    op.create_index("ix_workitem_input_workitem_id", "workitem_input", ["workitem_id"])
    op.create_index("ix_workitem_input_job_id", "workitem_input", ["job_id"])
    waiting = sa.text("waiting")
    op.create_index(
        "ix_workitem_input_waiting", "workitem_input", ["id"], sqlite_where=waiting, postgresql_where=waiting
    )


def _create_subscriptions() -> None:
    op.create_table(
        "subscriber",
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("connection", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("ae_title", name=op.f("pk_subscriber")),
    )
    op.create_table(
        "worklist_subscription",
        sa.Column("id", ID, nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("filtered", sa.Boolean(), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worklist_subscription")),
        sa.UniqueConstraint("ae_title", "filtered", name=op.f("uq_worklist_subscription_ae_title_filtered")),
    )
    op.create_table(
        "subscription",
        sa.Column("id", ID, nullable=False),
        sa.Column("workitem_id", ID, nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["workitem_id"], ["workitem.id"], name=op.f("fk_subscription_workitem_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscription")),
        sa.UniqueConstraint("workitem_id", "ae_title", name=op.f("uq_subscription_workitem_id_ae_title")),
    )
    op.create_index("ix_subscription_ae_title", "subscription", ["ae_title"])
    op.create_table(
        "notification",
        sa.Column("id", ID, nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notification_ae_title", "notification", ["ae_title", "id"])
