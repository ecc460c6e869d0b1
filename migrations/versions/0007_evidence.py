"""What is known of what a series has: by asking an archive, and by what others announce."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("completion", sa.Column("note", sa.Text(), nullable=True))
    _create_inquiry()
    _create_announced()
    _create_notification_of_results()


def _create_inquiry() -> None:
    op.create_table(
        "inquiry",
        sa.Column("id", ID, nullable=False),
        sa.Column("series_id", ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("association_id", ID, nullable=False),
        sa.Column("missing", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_inquiry_series_id")),
        sa.ForeignKeyConstraint(
            ["association_id"], ["association.id"], name=op.f("fk_inquiry_association_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inquiry")),
        sa.UniqueConstraint("series_id", name=op.f("uq_inquiry_series_id")),
    )
    asking = sa.text("state = 'asking'")
    op.create_index(
        "ix_inquiry_asking", "inquiry", ["not_before"], sqlite_where=asking, postgresql_where=asking
    )


def _create_announced() -> None:
    op.create_table(
        "announced",
        sa.Column("id", ID, nullable=False),
        sa.Column("SeriesInstanceUID", sa.String(length=64), nullable=False),
        sa.Column("SOPInstanceUID", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announced")),
        sa.UniqueConstraint(
            "SeriesInstanceUID", "SOPInstanceUID", name=op.f("uq_announced_SeriesInstanceUID_SOPInstanceUID")
        ),
    )
    op.create_index("ix_announced_at", "announced", ["at"])
    op.create_table(
        "performed_step",
        sa.Column("id", ID, nullable=False),
        sa.Column("SOPInstanceUID", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("series", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_performed_step")),
        sa.UniqueConstraint("SOPInstanceUID", name=op.f("uq_performed_step_SOPInstanceUID")),
    )
    op.create_index("ix_performed_step_updated_at", "performed_step", ["updated_at"])


def _create_notification_of_results() -> None:
    # Of what was confirmed so far nobody is told any more.
    op.add_column("delivery", sa.Column("announced", sa.Boolean(), nullable=False, server_default=sa.true()))
    due = sa.text("state = 'confirmed' AND NOT announced")
    op.create_index("ix_delivery_unannounced", "delivery", ["id"], sqlite_where=due, postgresql_where=due)
    op.create_table(
        "availability",
        sa.Column("id", ID, nullable=False),
        sa.Column("SOPInstanceUID", sa.String(length=64), nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_availability_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_availability")),
    )
    op.create_index("ix_availability_claim", "availability", ["peer", "state", "not_before"])
