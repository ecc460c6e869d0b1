"""A stored data set, seen without loading it: in memory, in its file, or inflated from it (PS3.5 A.5)."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicomnode.errors import InstanceTooLarge, NotDicom
from dicomnode.imaging.structure import LEAST_WINDOW, Source, check_structure
from dicomnode.model.limits import INFLATION_IS_FREE, InstanceLimits

_WINDOW = 4096
_BLOCK = 65_536


def check_stored(
    path: Path,
    data_at: int,
    size: int,
    beginning: bytes,
    TransferSyntaxUID: str,
    limits: InstanceLimits,
    sought: frozenset[int] = frozenset(),
) -> Mapping[int, int]:
    """Check the data set of `size` bytes that begins at `data_at` of a file; `beginning` is its first bytes.

    Returns where elements begin that are `sought`, by tag. Raises NotDicom where its structure is broken,
    InstanceTooLarge where it inflates to more than may be.
    """
    if TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        with path.open("rb") as file:
            file.seek(data_at)
            inflated = _inflated_size(file, size, limits)
            file.seek(data_at)
            return check_structure(_deflated_windows(file), inflated, TransferSyntaxUID, limits, sought)
    with _file_windows(path, data_at, beginning) as source:
        return check_structure(source, size, TransferSyntaxUID, limits, sought)


def inflated_beginning(file: BinaryIO, length: int) -> BytesIO:
    """The first bytes of the deflated data set that begins where `file` stands. Raises NotDicom."""
    beginning = BytesIO()
    for block in _inflated_blocks(file):
        beginning.write(block)
        if beginning.tell() >= length:
            break
    beginning.seek(0)
    return beginning


def _inflated_size(file: BinaryIO, size: int, limits: InstanceLimits) -> int:
    most = min(limits.inflated, max(INFLATION_IS_FREE, size * limits.inflation))
    inflated = 0
    for block in _inflated_blocks(file):
        inflated += len(block)
        if inflated > most:
            raise InstanceTooLarge(most)
    return inflated


@contextmanager
def _file_windows(path: Path, data_at: int, beginning: bytes) -> Iterator[Source]:
    """The data set that begins at `data_at` of a file, which is opened only for more than its beginning."""
    with ExitStack() as stack:
        file: BinaryIO | None = None

        def window(at: int) -> bytes:
            nonlocal file
            if at + LEAST_WINDOW <= len(beginning):
                return beginning[at:]
            if file is None:
                file = stack.enter_context(path.open("rb", buffering=0))
            return os.pread(file.fileno(), _WINDOW, data_at + at)

        yield window


def _deflated_windows(file: BinaryIO) -> Source:
    """The deflated data set that begins where `file` stands; each window is after the one before."""
    blocks = _inflated_blocks(file)
    window, base = b"", 0

    def next_window(at: int) -> bytes:
        nonlocal window, base
        while at + LEAST_WINDOW > base + len(window):
            block = next(blocks, None)
            if block is None:
                break
            keep_from = min(len(window), max(0, at - base))
            window, base = window[keep_from:] + block, base + keep_from
        return window[at - base :]

    return next_window


def _inflated_blocks(file: BinaryIO) -> Iterator[bytes]:
    """What a deflated data set holds, a block at a time. Raises NotDicom where it does not inflate."""
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflating.eof:
        data = inflating.unconsumed_tail or file.read(_BLOCK)
        if not data:
            raise NotDicom("the deflated data set ends too early")
        try:
            yield inflating.decompress(data, _BLOCK)
        except zlib.error:
            raise NotDicom("the data set is not deflated") from None
