"""How the attribute list of a notification names series and instances (PS3.3 10.8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

from dicomnode.errors import AttributeInvalid, AttributeMissing
from dicomnode.model.uid import is_valid_uid


def required(ds: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence of type 1. Raises AttributeMissing."""
    items: Sequence[Dataset] | None = ds.get(keyword)
    if not items:
        raise AttributeMissing(keyword)
    return items


def uid_of(ds: Dataset, keyword: str) -> str:
    """A UID of type 1. Raises AttributeMissing, AttributeInvalid."""
    value = str(ds.get(keyword) or "")
    if not value:
        raise AttributeMissing(keyword)
    if not is_valid_uid(value):
        raise AttributeInvalid(keyword)
    return value


def instances_of(references: Iterable[Dataset]) -> frozenset[str]:
    """The SOPInstanceUIDs of a SOP Instance Reference Macro's items. Raises as `uid_of`."""
    return frozenset(uid_of(item, "ReferencedSOPInstanceUID") for item in references)


def named(uid: str) -> Dataset:
    """A SOP Instance UID that was left to the provider (PS3.7 10.1.5.1.4)."""
    ds = Dataset()
    ds.AffectedSOPInstanceUID = uid
    return ds
