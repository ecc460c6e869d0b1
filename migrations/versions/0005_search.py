"""What DICOMweb searches for: procedure steps, and names as they are compared."""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_FOLDED = {
    "PatientName": "patient_name_folded",
    "ReferringPhysicianName": "referring_physician_name_folded",
}
_SERIES = (
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "ScheduledProcedureStepID",
    "RequestedProcedureID",
)


def upgrade() -> None:
    for name in ("TimezoneOffsetFromUTC", *_FOLDED.values()):
        op.add_column("study", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    for name in _SERIES:
        op.add_column("series", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.add_column("instance", sa.Column("BitsAllocated", sa.Integer()))
    _fold_names()
    op.create_index(
        "ix_study_patient_name_folded",
        "study",
        ["patient_name_folded"],
        postgresql_ops={"patient_name_folded": "text_pattern_ops"},
    )


def _fold_names() -> None:
    study = sa.table("study", *(sa.column(name) for name in ("id", *_FOLDED, *_FOLDED.values())))
    connection = op.get_bind()
    for row in (
        connection.execute(sa.select(study.c.id, *(study.c[name] for name in _FOLDED))).mappings().all()
    ):
        folded = {column: _folded(row[name]) for name, column in _FOLDED.items()}
        connection.execute(sa.update(study).where(study.c.id == row["id"]).values(folded))


def _folded(name: str) -> str:
    parts = unicodedata.normalize("NFKD", name.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part)).rstrip("^= ")
