"""Which receivers listen, and which jobs still owe their destinations a notice that nothing was computed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "listener",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_listener")),
    )
    op.add_column("job", sa.Column("notify", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("job", sa.Column("notice_due", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_job_notice_due",
        "job",
        ["id"],
        sqlite_where=sa.text("notice_due"),
        postgresql_where=sa.text("notice_due"),
    )
