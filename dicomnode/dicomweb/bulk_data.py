"""WADO-RS: bulk data, one value by its URI or all of a resource, and pixel data (PS3.18 10.4.1.1.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path as FilePath

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.answers import (
    Content,
    FileSlice,
    Part,
    etag_of,
    multipart,
    ranges_in_parts,
    single,
    unmet_condition,
)
from dicomnode.dicomweb.dicom_json import BINARY_VRS, INLINE_LIMIT, PIXELS, Path, bulk_paths
from dicomnode.dicomweb.media import OCTET_STREAM
from dicomnode.dicomweb.negotiation import Wanted, accepted, in_order, is_plain, wanted_frames
from dicomnode.dicomweb.paths import above, base_url, way_in_url
from dicomnode.dicomweb.pixels import frame_part
from dicomnode.dicomweb.wado import LEVELS, Instances, Locate, instance_url
from dicomnode.errors import NotAcceptable, NotFound, Refused
from dicomnode.imaging.frames import FrameFile
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.instance import StoredInstance

_SWAPPED_TYPES = {"OD": "u8", "OF": "u4", "OL": "u4", "OV": "u8", "OW": "u2"}
_Ways = Callable[[Dataset], Iterable[Path]]


def routes(instances: Instances, locate: Locate) -> list[BaseRoute]:
    """The value at one place; at each level all values that the metadata have only URIs of, or the pixels."""
    service = _BulkData(instances, locate)
    return [
        Route(f"{LEVELS[-1]}/bulkdata/{{way:path}}", service.one, methods=["GET"]),
        *(Route(f"{path}/bulkdata", service.all, methods=["GET"]) for path in LEVELS),
        *(Route(f"{path}/pixeldata", service.pixels, methods=["GET"]) for path in LEVELS),
    ]


class _BulkData:
    def __init__(self, instances: Instances, locate: Locate) -> None:
        self._instances, self._locate = instances, locate

    def one(self, request: Request) -> Response:
        way = _way(request.path_params["way"])
        return self._answer(request, lambda _: [way])

    def all(self, request: Request) -> Response:
        return self._answer(request, bulk_paths)

    def pixels(self, request: Request) -> Response:
        return self._answer(request, lambda ds: [way for way in bulk_paths(ds) if way in PIXELS])

    def _answer(self, request: Request, ways: _Ways) -> Response:
        wanted, base = wanted_frames(request), base_url(request)
        found = self._instances(above(request))
        etag = etag_of(request.url.path, *(each.sha256 for each in found), *wanted, base)
        unmet = unmet_condition(request, etag)
        if unmet is not None:
            return unmet
        parts = self._parts(found, ways, wanted, base)
        begun = list(islice(parts, 2))
        if not begun:
            raise self._nothing(found, ways)
        if len(begun) == 1 and _is_taken_alone(request, wanted):
            return single(request, begun[0].media_type, begun[0].content, etag)
        if all(each.alone for each in wanted):
            raise NotAcceptable((f'multipart/related; type="{OCTET_STREAM}"',))
        if len(begun) == 1 and (partial := ranges_in_parts(request, begun[0], etag)) is not None:
            return partial
        return multipart(begun[0].media_type.partition(";")[0], chain(begun, parts), None, etag)

    def _parts(
        self, found: Sequence[StoredInstance], ways: _Ways, wanted: Sequence[Wanted], base: str
    ) -> Iterator[Part]:
        """Each value that can be had in a form that is wanted (PS3.18 10.4.3.3.5)."""
        takes_values = any(each.media_type == OCTET_STREAM for each in wanted)
        for each in found:
            path, url = self._locate(each.sha256), instance_url(base, each)
            ds = _header(path)
            for way in ways(ds):
                place = f"{url}/bulkdata/{way_in_url(way)}"
                if way in PIXELS:
                    yield from _pixel_parts(path, wanted, url, place)
                elif takes_values:
                    yield from _value_parts(ds, way, place)

    def _nothing(self, found: Sequence[StoredInstance], ways: _Ways) -> Exception:
        headers = (_header(self._locate(each.sha256)) for each in found)
        if any(way in PIXELS and way[0] in ds for ds in headers for way in ways(ds)):
            return NotAcceptable((OCTET_STREAM, f"{OCTET_STREAM}; transfer-syntax=*"))
        return NotFound("bulk data", "here")


def _is_taken_alone(request: Request, wanted: Sequence[Wanted]) -> bool:
    """One value by its own URI is given bare to who takes anything; of lists that is asked for."""
    return wanted[0].alone or ("way" in request.path_params and accepted(request)[0].essence == "*/*")


def _way(text: str) -> Path:
    try:
        return tuple(int(part, 10 if place % 2 else 16) for place, part in enumerate(text.split("/")))
    except ValueError:
        raise NotFound("bulk data", "here") from None


def _header(path: FilePath) -> Dataset:
    return dcmread(path, defer_size=INLINE_LIMIT)


def _value_parts(ds: Dataset, way: Path, place: str) -> Iterator[Part]:
    try:
        item = ds
        for tag, number in zip(way[:-1:2], way[1::2], strict=True):
            item = item[tag].value[number]
        value = _value(item[way[-1]], little=ds.is_little_endian is not False)
    except UNREADABLE:
        return
    yield Part(OCTET_STREAM, value, place)


def _value(element: DataElement, *, little: bool) -> bytes:
    """The bytes of a value as Explicit VR Little Endian has them."""
    if element.VR[:2] not in BINARY_VRS or not isinstance(element.value, bytes):
        raise ValueError("no bulk data")
    swapped = None if little else _SWAPPED_TYPES.get(element.VR[:2])
    value: bytes = element.value
    return value if swapped is None else np.frombuffer(value, swapped).byteswap().tobytes()


def _pixel_parts(path: FilePath, wanted: Sequence[Wanted], url: str, place: str) -> Iterator[Part]:
    """The whole value in plain, or each frame compressed, in the first form that can be had."""
    try:
        file = FrameFile(path)
    except (Refused, *UNREADABLE):
        return
    for form in in_order(wanted, file.syntax):
        plain = is_plain(form, file.syntax)
        try:
            first = Part(OCTET_STREAM, _plain(file, path)) if plain else frame_part(file, 1, form)
        except UNREADABLE:
            continue
        yield replace(first, location=place if plain or file.count == 1 else f"{url}/frames/1")
        for number in range(2, 1 if plain else file.count + 1):
            yield replace(frame_part(file, number, form), location=f"{url}/frames/{number}")
        return


def _plain(file: FrameFile, path: FilePath) -> Content:
    if file.extent is not None:
        return FileSlice(path, *file.extent)
    return b"".join(file.plain(number) for number in range(1, file.count + 1))
