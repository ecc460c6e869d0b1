"""The installation's own UID: two nodes with the same pipeline and the same series make different UIDs."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    identity = op.create_table(
        "identity",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_identity")),
    )
    op.bulk_insert(identity, [{"uid": f"2.25.{uuid4().int}"}])
