"""Versions of a pipeline: which one is active, which ones run in its shadow, and how they compare."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("job", sa.Column("shadow_of", ID, nullable=True))
    _create_activation()
    _create_shadow()
    _create_comparison()


def _version(prefix: str = "") -> list[sa.Column[str]]:
    return [
        sa.Column(f"{prefix}{name}", sa.String(length=64), nullable=False) for name in ("version", "digest")
    ]


def _create_activation() -> None:
    op.create_table(
        "activation",
        sa.Column("id", ID, nullable=False),
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        *_version(),
        sa.Column("earlier_id", ID, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["earlier_id"], ["activation.id"], name=op.f("fk_activation_earlier_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activation")),
    )
    op.create_index("ix_activation_pipeline", "activation", ["pipeline", "id"])


def _create_shadow() -> None:
    op.create_table(
        "shadow",
        sa.Column("id", ID, nullable=False),
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        *_version(),
        sa.Column("percent", sa.Float(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow")),
        sa.UniqueConstraint("pipeline", "digest", name=op.f("uq_shadow_pipeline_digest")),
    )


def _create_comparison() -> None:
    op.create_table(
        "comparison",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("shadow_id", ID, nullable=False),
        sa.Column("compared_at", MOMENT, nullable=True),
        sa.Column("found", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_comparison_job_id")),
        sa.ForeignKeyConstraint(["shadow_id"], ["job.id"], name=op.f("fk_comparison_shadow_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison")),
        sa.UniqueConstraint("shadow_id", name=op.f("uq_comparison_shadow_id")),
    )
    op.create_index("ix_comparison_job_id", "comparison", ["job_id"])
    due = sa.text("compared_at IS NULL")
    op.create_index("ix_comparison_due", "comparison", ["id"], sqlite_where=due, postgresql_where=due)
