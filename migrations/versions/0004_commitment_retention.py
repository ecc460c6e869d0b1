"""Storage commitment, asked of us and by us; and which objects retention let go."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "commitment",
        sa.Column("id", ID, nullable=False),
        sa.Column("TransactionUID", sa.String(length=64), nullable=False),
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint(
            "direction", "peer", "TransactionUID", name=op.f("uq_commitment_direction_peer_TransactionUID")
        ),
    )
    op.create_index("ix_commitment_claim", "commitment", ["direction", "state", "not_before"], unique=False)
    op.create_table(
        "commitment_event",
        sa.Column("id", ID, nullable=False),
        sa.Column("commitment_id", ID, nullable=False),
        sa.Column("event", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["commitment_id"], ["commitment.id"], name=op.f("fk_commitment_event_commitment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment_event")),
    )
    op.create_index("ix_commitment_event_commitment_id", "commitment_event", ["commitment_id"], unique=False)
    op.create_table(
        "commitment_instance",
        sa.Column("id", ID, nullable=False),
        sa.Column("commitment_id", ID, nullable=False),
        sa.Column("SOPClassUID", sa.String(length=64), nullable=False),
        sa.Column("SOPInstanceUID", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", ID, nullable=True),
        sa.Column("delivery_fence", sa.Integer(), nullable=True),
        sa.Column("failure_reason", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["commitment_id"], ["commitment.id"], name=op.f("fk_commitment_instance_commitment_id")
        ),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name=op.f("fk_commitment_instance_delivery_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment_instance")),
    )
    op.create_index(
        "ix_commitment_instance_commitment_id", "commitment_instance", ["commitment_id"], unique=False
    )
    op.create_index(
        "ix_commitment_instance_SOPInstanceUID", "commitment_instance", ["SOPInstanceUID"], unique=False
    )
    op.create_index(
        "ix_commitment_instance_delivery_id", "commitment_instance", ["delivery_id"], unique=False
    )
    for table in ("instance", "result"):
        op.add_column(table, sa.Column("released_at", sa.DateTime(timezone=True), nullable=True))
        op.add_column(table, sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
        leaving = sa.text("released_at IS NOT NULL AND removed_at IS NULL")
        op.create_index(f"ix_{table}_leaving", table, ["id"], sqlite_where=leaving, postgresql_where=leaving)
    op.create_index("ix_series_completed_at", "series", ["completed_at"], unique=False)
