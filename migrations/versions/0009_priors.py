"""Priors: what is sought for which job, what was found, and who asked for what came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("association", sa.Column("asked", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "prior",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_prior_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prior")),
        sa.UniqueConstraint("job_id", "name", name=op.f("uq_prior_job_id_name")),
    )
    sought = sa.text("state = 'sought'")
    op.create_index("ix_prior_sought", "prior", ["not_before"], sqlite_where=sought, postgresql_where=sought)
    op.create_table(
        "prior_series",
        sa.Column("id", ID, nullable=False),
        sa.Column("prior_id", ID, nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("series_id", ID, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["prior_id"], ["prior.id"], name=op.f("fk_prior_series_prior_id")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_prior_series_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prior_series")),
        sa.UniqueConstraint("prior_id", "place", name=op.f("uq_prior_series_prior_id_place")),
    )
    op.create_index("ix_prior_series_series_id", "prior_series", ["series_id"])
