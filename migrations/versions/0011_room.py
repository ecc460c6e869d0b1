"""Memory: what jobs need, what machines and their devices have, and who holds how much of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("run", sa.Column("pipeline_digest", sa.String(64), nullable=False, server_default=""))
    op.add_column("run", sa.Column("memory_mb", sa.Integer(), nullable=True))
    op.add_column("run", sa.Column("gpu_memory_mb", sa.Integer(), nullable=True))
    measured = sa.text("memory_mb IS NOT NULL")
    op.create_index(
        "ix_run_measured",
        "run",
        ["pipeline_digest", "id"],
        sqlite_where=measured,
        postgresql_where=measured,
    )
    _let_workers_hold()
    _create_device()
    op.create_table(
        "bundle",
        sa.Column("pipeline_digest", sa.String(64), nullable=False),
        sa.Column("declared_mb", sa.Integer(), nullable=False),
        sa.Column("declared_gpu_mb", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("gpu_memory_mb", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("pipeline_digest", name=op.f("pk_bundle")),
    )


def _let_workers_hold() -> None:
    op.add_column("worker", sa.Column("host", sa.Text(), nullable=False, server_default=""))
    op.add_column("worker", sa.Column("device", sa.Text(), nullable=False, server_default=""))
    op.add_column("worker", sa.Column("pipeline", sa.Text(), nullable=True))
    op.add_column("worker", sa.Column("pipeline_digest", sa.String(64), nullable=True))
    for name in ("held_host_mb", "held_device_mb"):
        op.add_column("worker", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("worker", sa.Column("held_since", MOMENT, nullable=True))
    op.add_column("worker", sa.Column("leaving", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_worker_host", "worker", ["host"])


def _create_device() -> None:
    op.create_table(
        "device",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host_mb", sa.Integer(), nullable=False),
        sa.Column("device_mb", sa.Integer(), nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("host", "name", name=op.f("pk_device")),
    )
