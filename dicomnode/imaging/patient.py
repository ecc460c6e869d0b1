"""Who a header is of."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomnode.imaging.elements import text_of
from dicomnode.model.prior import Patient


def patient_of(ds: Dataset) -> Patient:
    """Who a header, or a match, is of."""
    birth_date, sex = text_of(ds, "PatientBirthDate"), text_of(ds, "PatientSex")
    return Patient(text_of(ds, "PatientID"), text_of(ds, "IssuerOfPatientID"), birth_date, sex.upper())
