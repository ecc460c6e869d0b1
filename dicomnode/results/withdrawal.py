"""The withdrawal of an earlier generation's results: a rejection note (IHE RAD IOCM, PS3.3 C.17.6)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicomnode.model.result import EncodedResult, ResultReference, ResultRole
from dicomnode.results import content
from dicomnode.results.gate import check_withdrawal
from dicomnode.results.instance import new_instance
from dicomnode.results.key_images import KINDS_OF_SELECTION, make_selection
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import reference_to

_TITLE = "Results of an earlier generation"
_WORDS = (
    "These results were computed before all images of the series had arrived. "
    "Results of the whole series take their place."
)


def encode_withdrawal(
    earlier: Sequence[ResultReference], header: Dataset, provenance: Provenance
) -> EncodedResult:
    """A Key Object Selection that rejects `earlier`, read back and compared.

    `header` is any of the source's: it has the patient and the study. Raises GateFailed, and ValueError
    where `earlier` is empty.
    """
    if not earlier:
        raise ValueError("there is nothing to withdraw")
    references = [reference_to(result) for result in earlier]
    origin = provenance.told_apart(*(result.SOPInstanceUID for result in earlier))
    ds = new_instance(KINDS_OF_SELECTION[ResultRole.WITHDRAWAL], _TITLE, None, origin)
    items = [content.result(reference) for reference in references]
    make_selection(ds, codes.DCM.RejectedForPatientSafetyReasons, _WORDS, items, references, origin)
    encoded = finish(ds, ResultRole.WITHDRAWAL, header, origin)
    check_withdrawal(encoded, earlier, header)
    return encoded
