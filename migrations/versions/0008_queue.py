"""The order of the queue, deadlines, pauses, who works, and what runs cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
HEAD_START_S = (86_400, 7_200, 0, -28_800)
"""Of stat, high, routine and low, as they were when this was written."""


def upgrade() -> None:
    _order_jobs()
    op.add_column("job_event", sa.Column("actor", sa.Text(), nullable=True))
    _count_runs()
    _create_pause()
    _create_worker()
    _index("delivery", "ix_delivery_sending", ["lease_expires_at"], "state = 'sending'")


def _index(table: str, name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _order_jobs() -> None:
    moment = sa.DateTime(timezone=True)
    long_ago = sa.text("'2000-01-01 00:00:00.000000'")
    op.add_column("job", sa.Column("urgent_at", moment, nullable=False, server_default=long_ago))
    op.add_column("job", sa.Column("deadline_at", moment, nullable=True))
    for rank, seconds in enumerate(HEAD_START_S):
        if op.get_bind().dialect.name == "sqlite":
            moved = f"strftime('%Y-%m-%d %H:%M:%f000', created_at, '{-seconds} seconds')"
        else:
            moved = f"created_at - interval '{seconds} seconds'"
        op.execute(f"UPDATE job SET urgent_at = {moved} WHERE priority = {rank}")  # noqa: S608  numbers
    op.drop_index("ix_job_claim", "job")
    waiting = "state IN ('ready', 'retry_wait')"
    _index("job", "ix_job_waiting", ["urgent_at", "id"], waiting)
    _index("job", "ix_job_deadline_at", ["deadline_at"], f"{waiting} AND deadline_at IS NOT NULL")
    _index("job", "ix_job_leased", ["lease_expires_at"], "state = 'leased'")


def _count_runs() -> None:
    for name in ("pipeline", "route"):
        op.add_column("run", sa.Column(name, sa.Text(), nullable=False, server_default=""))
        of_job = f"SELECT job.{name} FROM job WHERE job.id = run.job_id"  # noqa: S608  a fixed name
        op.execute(f"UPDATE run SET {name} = ({of_job})")  # noqa: S608  a fixed name
    _index("run", "ix_run_done", ["pipeline", "id"], "outcome = 'done'")
    op.create_index("ix_run_ended_at", "run", ["ended_at"])


def _create_pause() -> None:
    op.create_table(
        "pause",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pause")),
        sa.UniqueConstraint("kind", "name", name=op.f("uq_pause_kind_name")),
    )


def _create_worker() -> None:
    op.create_table(
        "worker",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker")),
    )
