"""Which bytes of a representation a Range header asks for (RFC 9110 14)."""

from __future__ import annotations

import re

MAXIMUM_RANGES = 100
_UNIT = re.compile(r"bytes=(.*)", re.IGNORECASE)
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18})")


def wanted_ranges(header: str, whole: int) -> list[tuple[int, int]] | None:
    """First byte and length of each range, in the order of the header; None where the whole is to be given.

    That is so where the header cannot be read, and where its ranges together are more than the whole, as of
    nobody who saves anything (RFC 9110 14.2, 17.15). An empty list: there are no such bytes.
    """
    unit = _UNIT.fullmatch(header.strip())
    if unit is None:
        return None
    wanted = [part.strip() for part in unit[1].split(",") if part.strip()]
    if not 1 <= len(wanted) <= MAXIMUM_RANGES:
        return None
    found = []
    for part in wanted:
        read = _RANGE.fullmatch(part)
        if read is None or (read[2] and int(read[2]) < int(read[1])):
            return None
        first, length = _extent(read, whole)
        if length > 0:
            found.append((first, length))
    return None if sum(length for _, length in found) > whole else found


def _extent(read: re.Match[str], whole: int) -> tuple[int, int]:
    if read[3]:
        length = min(int(read[3]), whole)
        return whole - length, length
    first = int(read[1])
    last = min(int(read[2]), whole - 1) if read[2] else whole - 1
    return first, last - first + 1
