"""WADO-RS: instances and their metadata are retrieved (PS3.18 10.4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.answers import (
    Content,
    FileSlice,
    Part,
    after,
    etag_of,
    multipart,
    multipart_of_known_size,
    single,
    unmet_condition,
)
from dicomnode.dicomweb.dicom_json import INLINE_LIMIT, JSONDataset, to_json
from dicomnode.dicomweb.dicom_xml import to_xml
from dicomnode.dicomweb.media import DICOM, DICOM_XML
from dicomnode.dicomweb.negotiation import AS_STORED, Wanted, choose_model, in_order, wanted_instances
from dicomnode.dicomweb.paths import above, base_url, way_in_url
from dicomnode.errors import NotAcceptable
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.imaging.transcoding import TARGETS, can_decode, transcoded
from dicomnode.model.instance import StoredInstance
from dicomnode.model.located import Located

Instances = Callable[[Mapping[str, str]], Sequence[StoredInstance]]
"""The stored instances that UIDs name, by keyword; raises NotFound, or Gone."""
Locate = Callable[[str], Path]
"""Where the object of a digest lies."""
LEVELS = (
    "/studies/{study}",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/instances/{instance}",
)


def routes(instances: Instances, locate: Locate) -> list[BaseRoute]:
    """Retrieval of whole instances and of metadata, at each level."""

    def retrieve(request: Request) -> Response:
        wanted = wanted_instances(request)
        found = instances(above(request))
        etag = etag_of(*(each.sha256 for each in found), *wanted)
        return unmet_condition(request, etag) or _instances(request, found, wanted, etag, locate)

    def metadata(request: Request) -> Response:
        media_type = choose_model(request)
        found = instances(above(request))
        base = base_url(request)
        etag = etag_of(*(each.sha256 for each in found), media_type, base)
        unmet = unmet_condition(request, etag)
        if unmet is not None:
            return unmet
        models = (_metadata(each, locate(each.sha256), base) for each in found)
        if media_type == DICOM_XML:
            return multipart(DICOM_XML, (Part(DICOM_XML, to_xml(model)) for model in models), None, etag)
        headers = {"ETag": etag, "Vary": "Accept"}
        return StreamingResponse(_json_array(models), media_type=media_type, headers=headers)

    return [
        *(Route(path, retrieve, methods=["GET"]) for path in LEVELS),
        *(Route(f"{path}/metadata", metadata, methods=["GET"]) for path in LEVELS),
    ]


def instance_url(base: str, instance: StoredInstance) -> str:
    """The URL of an instance's own resource (PS3.18 10.4.1.1.1)."""
    return (
        f"{base}/studies/{instance.StudyInstanceUID}/series/{instance.SeriesInstanceUID}"
        f"/instances/{instance.SOPInstanceUID}"
    )


def content_of(
    instance: StoredInstance, path: PathLike[str], wanted: Sequence[Wanted]
) -> tuple[Content, str]:
    """The instance in the form that is wanted most and can be had, and its transfer syntax.

    Raises NotAcceptable.
    """
    for syntax in _syntaxes(instance, wanted):
        if syntax == instance.TransferSyntaxUID:
            return FileSlice(path, 0, instance.size), syntax
        try:
            return transcoded(Path(path), UID(syntax))
        except UNREADABLE:
            continue
    raise NotAcceptable((f"{DICOM}; transfer-syntax={instance.TransferSyntaxUID}",))


def _syntaxes(instance: StoredInstance, wanted: Sequence[Wanted]) -> Iterator[str]:
    """What to try, the best first. Where none is asked for, what cannot be decoded goes as it is."""
    stored = instance.TransferSyntaxUID
    for each in in_order(wanted, stored):
        if each.syntax in (AS_STORED, stored) or (not each.syntax and not can_decode(stored)):
            yield stored
        elif (each.syntax or ExplicitVRLittleEndian) in TARGETS and can_decode(stored):
            yield each.syntax or ExplicitVRLittleEndian


def _instances(
    request: Request, found: Sequence[StoredInstance], wanted: Sequence[Wanted], etag: str, locate: Locate
) -> Response:
    alone = in_order(wanted, found[0].TransferSyntaxUID)[0].alone
    if alone and len(found) == 1:
        content, syntax = content_of(found[0], locate(found[0].sha256), [w for w in wanted if w.alone])
        return single(request, _media_type(syntax), content, etag)
    in_parts = [each for each in wanted if not each.alone]
    if not in_parts:
        raise NotAcceptable((f'multipart/related; type="{DICOM}"',))
    base = base_url(request)
    # A store that is away is found out before the first byte is sent; the last file comes long after it.
    locate(found[0].sha256)

    def part(each: StoredInstance) -> Part:
        content, syntax = content_of(each, Located(partial(locate, each.sha256)), in_parts)
        return Part(_media_type(syntax), content, instance_url(base, each))

    if all(next(_syntaxes(each, in_parts), "") == each.TransferSyntaxUID for each in found):
        return multipart_of_known_size(DICOM, [part(each) for each in found], etag)
    # What no form suits is found out before the first byte is sent.
    first = part(found[0])
    for each in found:
        if next(_syntaxes(each, in_parts), None) is None:
            raise NotAcceptable((f"{DICOM}; transfer-syntax={each.TransferSyntaxUID}",))
    return multipart(DICOM, after(first, (part(each) for each in found[1:])), None, etag)


def _media_type(syntax: str) -> str:
    return f"{DICOM}; transfer-syntax={syntax}"


def _metadata(instance: StoredInstance, path: Path, base: str) -> JSONDataset:
    ds = dcmread(path, defer_size=INLINE_LIMIT)
    bulk = f"{instance_url(base, instance)}/bulkdata"
    model = to_json(ds, lambda way: f"{bulk}/{way_in_url(way)}")
    # The transfer syntax is no attribute of the data set; viewers ask for it all the same (PS3.18 8.7.3.5).
    model["00083002"] = {"vr": "UI", "Value": [instance.TransferSyntaxUID]}
    return dict(sorted(model.items()))


def _json_array(models: Iterator[JSONDataset]) -> Iterator[bytes]:
    before = b"["
    for model in models:
        yield before + json.dumps(model, ensure_ascii=False, separators=(",", ":")).encode()
        before = b","
    yield b"]"
