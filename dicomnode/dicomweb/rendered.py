"""WADO-RS: rendered instances and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pydicom import dcmread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dicomnode.dicomweb.answers import Part, after, etag_of, multipart, unmet_condition
from dicomnode.dicomweb.documents import document, document_type, is_document
from dicomnode.dicomweb.negotiation import accepted
from dicomnode.dicomweb.paths import above
from dicomnode.dicomweb.pictures import GIF, Rendering, animate, encode, parse_rendering, picture_type
from dicomnode.dicomweb.pixels import frame_numbers, open_frames
from dicomnode.dicomweb.wado import LEVELS, Instances, Locate
from dicomnode.errors import BadRequest, NotFound
from dicomnode.imaging.frames import FrameFile
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.instance import StoredInstance

_THUMBNAIL = "128,128"


def routes(instances: Instances, locate: Locate) -> list[BaseRoute]:
    """Rendered resources at each level and for frames, and a thumbnail of each."""
    renderer = _Renderer(instances, locate)
    resources = [*LEVELS, f"{LEVELS[-1]}/frames/{{frames}}"]
    return [
        *(Route(f"{path}/rendered", renderer.rendered, methods=["GET"]) for path in resources),
        *(Route(f"{path}/thumbnail", renderer.thumbnail, methods=["GET"]) for path in resources),
    ]


class _Renderer:
    def __init__(self, instances: Instances, locate: Locate) -> None:
        self._instances, self._locate = instances, locate

    def rendered(self, request: Request) -> Response:
        """Of an instance one frame, the first unless others are named, or all of them as a GIF; of a series a
        frame of each image. Of a report its text."""
        found = self._instances(above(request))
        whole = "instance" in request.path_params and "frames" not in request.path_params
        if whole and is_document(found[0].SOPClassUID):
            return self._document(request, found[0])
        rendering = parse_rendering(request.query_params, picture_type(accepted(request)))
        if "instance" in request.path_params:
            return self._answer(
                request, found, rendering, lambda: self._of_instance(request, found, rendering)
            )
        return self._answer(request, found, rendering, lambda: self._of_all(found, rendering))

    def thumbnail(self, request: Request) -> Response:
        """The picture in the middle stands for all."""
        parameters = {"viewport": _THUMBNAIL, **request.query_params}
        rendering = parse_rendering(parameters, picture_type(accepted(request)))
        found = self._instances(above(request))
        return self._answer(request, found, rendering, lambda: self._middle(request, found, rendering))

    def _document(self, request: Request, instance: StoredInstance) -> Response:
        if not set(request.query_params) <= {"accept", "charset"}:
            raise BadRequest("a document has no window, viewport or quality")
        media_type = document_type(instance.SOPClassUID, accepted(request))
        etag = etag_of(instance.sha256, media_type)
        unmet = unmet_condition(request, etag)
        if unmet is not None:
            return unmet
        try:
            ds = dcmread(self._locate(instance.sha256))
        except UNREADABLE:
            raise NotFound("document", "here") from None
        headers = {"ETag": etag, "Vary": "Accept", "Content-Security-Policy": "sandbox; default-src 'none'"}
        return Response(document(ds, media_type), headers=headers, media_type=media_type)

    def _answer(
        self,
        request: Request,
        found: Sequence[StoredInstance],
        rendering: Rendering,
        pictures: Callable[[], Iterator[bytes]],
    ) -> Response:
        etag = etag_of(request.url.path, *(each.sha256 for each in found), rendering)
        unmet = unmet_condition(request, etag)
        if unmet is not None:
            return unmet
        media_type, made = rendering.media_type, pictures()
        first = next(made, None)
        if first is None:
            raise NotFound("picture", "here")
        if "instance" in request.path_params or request.url.path.endswith("/thumbnail"):
            second = next(made, None)
            if second is None:
                return Response(first, media_type=media_type, headers={"ETag": etag, "Vary": "Accept"})
            made = (each for group in ([second], made) for each in group)
        parts = (Part(media_type, picture) for picture in made)
        return multipart(media_type, after(Part(media_type, first), parts), None, etag)

    def _of_instance(
        self, request: Request, found: Sequence[StoredInstance], rendering: Rendering
    ) -> Iterator[bytes]:
        numbers = frame_numbers(request.path_params.get("frames", "1"))
        file = open_frames(self._locate(found[0].sha256), numbers)
        if rendering.media_type == GIF and "frames" not in request.path_params and file.count > 1:
            return iter([animate(file, rendering)])
        return (encode(file, number, rendering) for number in numbers)

    def _of_all(self, found: Sequence[StoredInstance], rendering: Rendering) -> Iterator[bytes]:
        files = (self._image(each) for each in found)
        return (encode(file, 1, rendering) for file in files if file is not None)

    def _middle(
        self, request: Request, found: Sequence[StoredInstance], rendering: Rendering
    ) -> Iterator[bytes]:
        if "frames" in request.path_params:
            return self._of_instance(request, found, rendering)
        from_middle = sorted(range(len(found)), key=lambda at: abs(at - len(found) // 2))
        files = (self._image(found[at]) for at in from_middle)
        file = next((each for each in files if each is not None), None)
        return iter(()) if file is None else iter([encode(file, (file.count + 1) // 2, rendering)])

    def _image(self, instance: StoredInstance) -> FrameFile | None:
        try:
            return open_frames(self._locate(instance.sha256), [1])
        except NotFound:
            return None
