"""How pictures are asked for and made: window, viewport, quality, media type (PS3.18 8.3.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image
from pydicom.dataset import Dataset

from dicomnode.dicomweb.media import MediaType, is_refused
from dicomnode.dicomweb.negotiation import MULTIPART
from dicomnode.errors import BadRequest, NotAcceptable
from dicomnode.imaging.elements import number_of
from dicomnode.imaging.frames import FrameFile
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.imaging.rendering import Picture, Window, WindowFunction, render

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
_PIL_FORMATS = {JPEG: "JPEG", PNG: "PNG", GIF: "GIF"}
_FUNCTIONS: dict[str, WindowFunction] = {
    "linear": "LINEAR",
    "linear-exact": "LINEAR_EXACT",
    "sigmoid": "SIGMOID",
}
_QUALITY = 90
_LARGEST = 8192
_MOVING_PIXELS = 200_000_000
"""So many in all frames of a GIF: they are held until the last one is known."""
_FRAME_TIME_MS = 100.0
_KNOWN = frozenset({"accept", "annotation", "charset", "iccprofile", "quality", "viewport", "window"})


Region = tuple[float | None, float | None, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Viewport:
    """The picture fits into `size` (width, height); `region` is (left, top, width, height) in the source.

    A negative width or height of the region mirrors the picture (PS3.18 8.3.5.1.3). With `in_shares` the
    region is in shares of the source's width and height, else in pixels.
    """

    size: tuple[int, int] | None = None
    region: Region = (None, None, None, None)
    in_shares: bool = False


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a picture is made; `quality` is JPEG's, from 1 to 100."""

    media_type: str
    window: Window | None = None
    viewport: Viewport = Viewport()
    quality: int = _QUALITY


def encode(file: FrameFile, number: int, rendering: Rendering) -> bytes:
    """One frame as a JPEG, PNG or GIF. Raises NotAcceptable where its pixels cannot be rendered."""
    image = _image(file, number, rendering)
    buffer = BytesIO()
    image.save(buffer, _PIL_FORMATS[rendering.media_type], quality=rendering.quality)
    return buffer.getvalue()


def animate(file: FrameFile, rendering: Rendering) -> bytes:
    """All frames as one GIF, as fast as the header says (PS3.3 C.7.6.5). Raises NotAcceptable."""
    first = _image(file, 1, rendering)
    if first.width * first.height * file.count > _MOVING_PIXELS:
        raise NotAcceptable((JPEG, PNG, f"{GIF} of fewer or smaller frames"))
    others = (_image(file, number, rendering) for number in range(2, file.count + 1))
    buffer = BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=_frame_time(file.ds), loop=0)
    return buffer.getvalue()


def _frame_time(ds: Dataset) -> float:
    """Milliseconds that a frame is shown."""
    if (time := number_of(ds, "FrameTime") or 0) > 0:
        return time
    rates = (number_of(ds, keyword) or 0 for keyword in ("RecommendedDisplayFrameRate", "CineRate"))
    return next((1000 / rate for rate in rates if rate > 0), _FRAME_TIME_MS)


def parse_rendering(parameters: Mapping[str, str], media_type: str) -> Rendering:
    """The query parameters of a rendered resource (PS3.18 8.3.5.1). Raises BadRequest."""
    unknown = sorted(set(parameters) - _KNOWN)
    if unknown:
        raise BadRequest("there are annotation, iccprofile, quality, viewport and window")
    if parameters.get("iccprofile", "no") != "no" or "annotation" in parameters:
        raise BadRequest("annotations and ICC profiles are not put into pictures")
    return Rendering(
        media_type,
        _window(parameters.get("window")),
        _viewport(parameters.get("viewport")),
        parse_quality(parameters.get("quality")),
    )


def parse_quality(text: str | None) -> int:
    """From 1 to 100. Raises BadRequest."""
    if text is None:
        return _QUALITY
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= 100:
        raise BadRequest("quality is a number from 1 to 100")
    return int(text)


def window_of(center: str, width: str, function: str = "linear") -> Window:
    """A window from its texts. Raises BadRequest."""
    numbers = [_number("window", center), _number("window", width)]
    if numbers[1] <= 0 or function.lower() not in _FUNCTIONS:
        raise BadRequest("window is center,width,function: linear, linear-exact or sigmoid")
    return Window(numbers[0], numbers[1], _FUNCTIONS[function.lower()])


def size_of(width: str, height: str) -> tuple[int, int]:
    """Width and height of a picture. Raises BadRequest."""
    size = int(_number("viewport", width)), int(_number("viewport", height))
    if not all(1 <= each <= _LARGEST for each in size):
        raise BadRequest(f"a picture has from 1 to {_LARGEST} pixels a side")
    return size


def region_of(text: str) -> Region:
    """Left, top, width and height of `x0,y0,x1,y1`, in shares (PS3.18 9.5.1). Raises BadRequest."""
    corners = [_number("region", part.strip()) for part in text.split(",")]
    if len(corners) != 4 or not (0 <= corners[0] < corners[2] <= 1 and 0 <= corners[1] < corners[3] <= 1):
        raise BadRequest("region is left,top,right,bottom, each from 0 to 1")
    left, top, right, bottom = corners
    return left, top, right - left, bottom - top


def picture_type(ranges: Sequence[MediaType]) -> str:
    """JPEG, or PNG or GIF where that is wanted more."""
    for each in ranges:
        wanted = each.parameters.get("type", "") if each.essence == MULTIPART else each.essence
        for offer in (JPEG, PNG, GIF):
            covered = wanted in ("*/*", "image/*", offer) or each.essence == "*/*"
            if each.quality > 0 and covered and not is_refused(ranges, offer):
                return offer
    raise NotAcceptable((JPEG, PNG, GIF))


def _window(text: str | None) -> Window | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 3):
        raise BadRequest("window is center,width,function")
    return window_of(*parts)


def _viewport(text: str | None) -> Viewport:
    if text is None:
        return Viewport()
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 6):
        raise BadRequest("viewport is vw,vh or vw,vh,sx,sy,sw,sh")
    held = [_number("viewport", part) if part else None for part in parts[2:]] or [None] * 4
    return Viewport(size_of(parts[0], parts[1]), (held[0], held[1], held[2], held[3]))


def _number(name: str, text: str) -> float:
    if not re.fullmatch(r"[-+]?\d{1,9}(\.\d{1,9})?([eE][-+]?\d)?", text):
        raise BadRequest(f"{name} has numbers only")
    return float(text)


def _image(file: FrameFile, number: int, rendering: Rendering) -> Image.Image:
    try:
        picture = render(file, number, rendering.window)
    except UNREADABLE:
        raise NotAcceptable(("other forms of it than a picture",)) from None
    return _shown(picture, rendering.viewport)


def _shown(picture: Picture, viewport: Viewport) -> Image.Image:
    """The region of the picture, as large as it fits into the viewport, its proportions kept."""
    image = Image.fromarray(picture)
    if viewport == Viewport():
        return image
    left, top, width, height = _region(viewport, image)
    if not (width and height and 0 <= left < image.width and 0 <= top < image.height):
        raise BadRequest("the viewport shows nothing of the picture")
    right, bottom = min(left + abs(width), image.width), min(top + abs(height), image.height)
    wide, high = viewport.size or (right - left, bottom - top)
    scale = min(wide / (right - left), high / (bottom - top))
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    image = image.resize(size, Image.Resampling.BILINEAR, (left, top, right, bottom))
    if width < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if height < 0 else image


def _region(viewport: Viewport, image: Image.Image) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels; what is not said goes to the borders."""
    sides = (image.width, image.height) if viewport.in_shares else (1, 1)
    left, top, width, height = (
        None if each is None else each * sides[place % 2] for place, each in enumerate(viewport.region)
    )
    left, top = left or 0.0, top or 0.0
    return (
        left,
        top,
        image.width - left if width is None else width,
        image.height - top if height is None else height,
    )
