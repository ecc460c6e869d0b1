"""Results can be searched for: the attributes that a search asks for, and which results are listed.

What was made before is listed with the Modality of its kind. What else its header says is not known without
its bytes, which a migration does not read: it stays empty.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_TEXTS = (
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "BodyPartExamined",
    "SeriesDate",
    "SeriesTime",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "ScheduledProcedureStepID",
    "RequestedProcedureID",
    "InstanceNumber",
)
_COUNTS = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated")
_MODALITIES = {
    "SEG": "SEG",
    "SR": "SR",
    "PM": "OT",
    "KOS": "KO",
    "PR": "PR",
    "SC": "OT",
    "RTSTRUCT": "RTSTRUCT",
    "PDF": "DOC",
    "NOTICE": "SR",
    "WITHDRAWAL": "KO",
}


def upgrade() -> None:
    op.add_column("result", sa.Column("fence", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("result", sa.Column("listed", sa.Boolean(), nullable=False, server_default=sa.true()))
    for name in _TEXTS:
        op.add_column("result", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    for name in _COUNTS:
        op.add_column("result", sa.Column(name, sa.Integer(), nullable=True))
    for statement in (_FENCES, _FORMS):
        op.execute(statement)
    result = sa.table("result", sa.column("role"), sa.column("Modality"))
    for role, modality in _MODALITIES.items():
        op.execute(sa.update(result).where(result.c.role == role).values(Modality=modality))
    for statement in (_PICTURES, _DERIVED):
        op.execute(statement)
    for name in ("StudyInstanceUID", "SeriesInstanceUID"):
        op.create_index(f"ix_result_{name}", "result", [name])


_FENCES = """
    UPDATE result SET fence = (SELECT job.fence FROM job WHERE job.id = result.job_id)
    WHERE role <> 'NOTICE' OR job_id NOT IN (SELECT id FROM job WHERE state = 'done')
"""
"""The notice of a job that was started again, and is done now, counts no longer."""

_FORMS = """
    UPDATE result SET listed = false
    WHERE role = 'WITHDRAWAL' OR EXISTS (
        SELECT 1 FROM result AS other
        JOIN delivery AS one ON one.result_id = other.id
        WHERE other.job_id = result.job_id AND other.id < result.id AND other.role = result.role
        AND EXISTS (SELECT 1 FROM delivery WHERE delivery.result_id = result.id)
        AND NOT EXISTS (
            SELECT 1 FROM delivery AS same
            WHERE same.result_id = result.id AND same.destination = one.destination
        )
    )
"""
"""Of what was made in several forms, for one destination each, the first is listed."""

_PICTURES = "UPDATE result SET \"Modality\" = 'OT' WHERE \"SOPClassUID\" = '1.2.840.10008.5.1.4.1.1.7'"
"""A notice can be one."""

_DERIVED = """
    UPDATE result SET "Modality" = (
        SELECT series."Modality" FROM job JOIN series ON series.id = job.series_id
        WHERE job.id = result.job_id
    )
    WHERE role = 'DERIVED'
"""
