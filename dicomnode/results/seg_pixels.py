"""The pixels of a Segmentation: packed bits, or segment numbers in run lengths (PS3.5 8.1.1, G)."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

SegmentFrame = tuple[int, int]
"""The index of a plane, and the number of a segment."""

_RLE_HEADER = pack("<16L", 1, 64, *[0] * 14)
_LONGEST_RUN = 128


def binary_frames(
    labels: NDArray[np.uint8], segments: Sequence[int], *, omit_empty: bool
) -> tuple[list[SegmentFrame], memoryview]:
    """The frames of a BINARY Segmentation, segment by segment, and their bits without a gap between them.

    `labels` (slices, rows, columns) holds `segments[n - 1]` where segment n lies. Where `omit_empty`, only
    frames with a voxel are there; of nothing at all there is one frame, as an image has at least one.
    """
    pixels = labels.shape[1] * labels.shape[2]
    counts = np.stack([np.bincount(plane.reshape(-1), minlength=256) for plane in labels])
    filled = counts[:, list(segments)].T > 0
    wanted = filled.copy() if omit_empty else np.ones_like(filled)
    wanted[0, 0] |= not wanted.any()
    frames = [(int(plane), int(number) + 1) for number, plane in np.argwhere(wanted)]
    # Pages of nought that are never written to take no memory.
    packed = np.zeros(-(-len(frames) * pixels // 8), np.uint8)
    for place, (plane, number) in enumerate(frames):
        if filled[number - 1, plane]:
            _put_bits(packed, place * pixels, (labels[plane] == segments[number - 1]).reshape(-1))
    return frames, packed.data


def label_frames(
    labels: NDArray[np.uint8], segments: Sequence[int], *, omit_empty: bool
) -> tuple[list[int], NDArray[np.uint8]]:
    """The planes of a LABELMAP Segmentation and their pixels: segment numbers, 0 where there is none."""
    number_of = np.zeros(256, np.uint8)
    number_of[list(segments)] = np.arange(1, len(segments) + 1)
    planes = [plane for plane in range(len(labels)) if not omit_empty or labels[plane].any()] or [0]
    return planes, number_of[labels if len(planes) == len(labels) else labels[planes]]


def run_lengths(frames: NDArray[np.uint8]) -> bytes | None:
    """The frames in RLE Lossless, encapsulated (PS3.5 A.4.2); None where that makes them no smaller."""
    encapsulated = encapsulate([_rle(frame) for frame in frames])
    return encapsulated if len(encapsulated) < frames.nbytes else None


def _rle(frame: NDArray[np.uint8]) -> bytes:
    """One frame of RLE Lossless: a header and one segment of replicate runs, none over a row's end.

    A value that stands alone is a run of one. The libraries' encoders are slower or end the process at sizes
    that they do not like.
    """
    values = frame.reshape(-1)
    starts_here = np.ones(values.size, np.bool_)
    np.not_equal(values[1:], values[:-1], out=starts_here[1:])
    starts_here[:: frame.shape[1]] = True
    starts = np.flatnonzero(starts_here)
    lengths = np.diff(starts, append=values.size)
    pieces = -(-lengths // _LONGEST_RUN)
    counts = np.full(int(pieces.sum()), _LONGEST_RUN)
    counts[np.cumsum(pieces) - 1] = lengths - _LONGEST_RUN * (pieces - 1)
    runs = np.empty((counts.size, 2), np.uint8)
    runs[:, 0] = (257 - counts) % 256
    runs[:, 1] = np.repeat(values[starts], pieces)
    return _RLE_HEADER + runs.tobytes()


def _put_bits(packed: NDArray[np.uint8], first: int, bits: NDArray[np.bool_]) -> None:
    """Set `bits` in `packed` from the bit `first` on; the least significant bit of a byte is the first."""
    byte, shift = divmod(first, 8)
    if shift:
        bits = np.concatenate([np.zeros(shift, np.bool_), bits])
    written = np.packbits(bits, bitorder="little")
    packed[byte : byte + written.size] |= written
