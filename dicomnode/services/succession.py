"""New results take the place of earlier ones: those are withdrawn, and the report names its predecessor."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicomnode.model.profile import Profile
from dicomnode.model.result import EncodedResult, ResultReference, ResultRole
from dicomnode.results.provenance import Provenance
from dicomnode.results.withdrawal import encode_withdrawal


def withdraw(
    earlier: Sequence[ResultReference], header: Dataset, provenance: Provenance, profile: Profile
) -> tuple[EncodedResult, ...]:
    """The rejection of `earlier` in the form of a profile; nothing where there is none, or it takes none."""
    if not earlier or ResultRole.WITHDRAWAL not in profile.takes:
        return ()
    return (encode_withdrawal(earlier, header, provenance.in_form(profile)),)


def predecessor_of(earlier: Sequence[ResultReference]) -> ResultReference | None:
    """The report among `earlier` that a new report comes after."""
    reports = [each for each in earlier if each.role in {ResultRole.SR, ResultRole.NOTICE}]
    return reports[-1] if reports else None
