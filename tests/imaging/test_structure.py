"""The structural check lets every real file through, and refuses what is broken, however it is looked at."""

from __future__ import annotations

import random
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicomnode.dimse.presentation import TRANSFER_SYNTAXES
from dicomnode.errors import InstanceTooLarge, NotDicom
from dicomnode.imaging.structure import check_structure
from dicomnode.imaging.windows import check_stored
from dicomnode.model.limits import InstanceLimits
from tests.hostile.datasets import EXPLICIT, ITEM, SEQUENCE_END, DataSet, bare, deflated, nested, sequence

LIMITS = InstanceLimits()
BROKEN = {
    "MR_truncated.dcm",
    "rtplan_truncated.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm",
    "badVR.dcm",  # NumberOfFrames is 1A
    "SC_rgb_jpeg.dcm",  # Implicit VR in a compressed transfer syntax
    "DICOMDIR-nooffset",
}
"""Files in the data of others that are broken, each in a way that the table of bad inputs names."""


def check(data: bytes, syntax: str = EXPLICIT, window: int = 4096, limits: InstanceLimits = LIMITS) -> None:
    check_structure(lambda at: data[at : at + window], len(data), syntax, limits)


def check_file(path: Path) -> None:
    """As ingest does: the beginning in memory, the rest in the file."""
    data_at, syntax = head(path)
    with path.open("rb") as file:
        file.seek(data_at)
        beginning = file.read(32_768)
    check_stored(path, data_at, path.stat().st_size - data_at, beginning, syntax, LIMITS)


def head(path: Path) -> tuple[int, str]:
    """Where the data set begins, and its transfer syntax."""
    meta = read_file_meta_info(path)
    return 144 + int(meta.FileMetaInformationGroupLength), str(meta.TransferSyntaxUID)


def files(root: Path) -> list[Path]:
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix in (".dcm", "") and path.name not in BROKEN:
            try:
                if head(path)[1] in TRANSFER_SYNTAXES:
                    found.append(path)
            except (InvalidDicomError, AttributeError, OSError):
                continue
    return found


def test_no_file_of_pydicoms_is_refused_that_is_not_broken():
    found = files(Path(pydicom.data.__file__).parent / "test_files")
    assert len(found) > 60
    for path in found:
        check_file(path)


def test_no_real_file_is_refused_that_is_not_broken(shared_data):
    found = files(shared_data)
    assert len(found) > 700
    for path in found:
        check_file(path)


def test_the_verdict_does_not_depend_on_the_windows():
    broken = DataSet({0x00081140: sequence(bare(ITEM) * 50 + bare(SEQUENCE_END))}).encoded()
    for window in range(64, 400, 7):
        check(broken, window=window)
        with pytest.raises(NotDicom):
            check(broken[:-1], window=window)


@given(st.integers(0, 2**32), st.sampled_from([EXPLICIT, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"]))
def test_whatever_bytes_come_are_let_through_or_refused_in_time(seed, syntax):
    generator = random.Random(seed)
    data = bytearray(DataSet({0x00081140: nested(3)}).encoded())
    for _ in range(generator.randrange(1, 8)):
        data[generator.randrange(len(data))] = generator.choice((0, 1, 0xFF, 0xFE, generator.randrange(256)))
    with suppress(NotDicom):
        check(bytes(data), syntax)


def test_the_limits_are_those_that_are_given():
    data = DataSet({0x00081140: nested(5)}).encoded()
    check(data, limits=InstanceLimits(depth=5))
    with pytest.raises(NotDicom, match="more than 4 deep"):
        check(data, limits=InstanceLimits(depth=4))
    with pytest.raises(NotDicom, match="more than 10 elements"):
        check(data, limits=InstanceLimits(elements=10))


def test_a_deflated_data_set_is_walked_as_it_is_inflated(tmp_path):
    path = tmp_path / "deflated"
    data = DataSet({0x00081140: sequence(bare(ITEM) * 20_000 + bare(SEQUENCE_END))}).encoded()
    for content, limits, error in (
        (data, LIMITS, None),
        (data[:-1], LIMITS, NotDicom),
        (data, InstanceLimits(inflated=100_000), InstanceTooLarge),
    ):
        path.write_bytes(b"head" + deflated(content))
        size = path.stat().st_size - 4
        if error is None:
            check_stored(path, 4, size, b"", DeflatedExplicitVRLittleEndian, limits)
        else:
            with pytest.raises(error):
                check_stored(path, 4, size, b"", DeflatedExplicitVRLittleEndian, limits)


def test_a_file_without_its_beginning_in_memory_is_read_from_disk(tmp_path):
    data = DataSet().encoded()
    path = tmp_path / "file"
    path.write_bytes(data)
    for held in (0, 10, 100, len(data)):
        check_stored(path, 0, len(data), BytesIO(data).read(held), EXPLICIT, LIMITS)
