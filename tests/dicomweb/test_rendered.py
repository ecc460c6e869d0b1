"""Rendered instances, thumbnails, and WADO-URI: pictures as a reader expects them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, RLELossless

from dicomnode.dicomweb import pictures
from tests.dicomweb.archive import Archive, serving
from tests.dicomweb.datasets import SERIES, STUDY, image, order, pixels, volume

INSTANCE = f"/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.1"
VOLUME = f"/studies/{STUDY}/series/1.2.3.5/instances/1.2.3.5.1"


def path_of(number: int) -> str:
    return f"/studies/1.2.8/series/1.2.8.{number}/instances/1.2.8.{number}.1"


INVERSE, COLOR, PALETTE, WINDOWED, REPORT, LUT, ENHANCED = map(path_of, range(1, 8))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    datasets = [
        image(1),
        image(2),
        volume(FrameTime="40"),
        inverse(),
        color(),
        palette(),
        windowed(),
        report(),
    ]
    datasets += [with_lut(), enhanced()]
    with serving(f"sqlite:///{folder / 'pictures.sqlite3'}", folder, datasets) as archive:
        yield archive


def inverse() -> Dataset:
    return image(1, "1.2.8.1", "1.2.8", PhotometricInterpretation="MONOCHROME1")


def color() -> Dataset:
    ds = image(1, "1.2.8.2", "1.2.8", PhotometricInterpretation="RGB", SamplesPerPixel=3)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PlanarConfiguration = 8, 8, 7, 1
    ds.PixelData = np.moveaxis(colors(), -1, 0).tobytes()
    return ds


def colors() -> np.ndarray:
    rows, columns = np.indices((12, 16))
    return np.stack([rows * 20, columns * 15, (rows + columns) * 9], -1).astype(np.uint8)


def palette() -> Dataset:
    """Stored value k is shown as (k, 255 - k, 7)."""
    ds = image(1, "1.2.8.3", "1.2.8", PhotometricInterpretation="PALETTE COLOR")
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = np.arange(192, dtype=np.uint8).tobytes()
    ramps = {"Red": np.arange(256), "Green": 255 - np.arange(256), "Blue": np.full(256, 7)}
    for name, ramp in ramps.items():
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(ds, f"{name}PaletteColorLookupTableData", ramp.astype(np.uint8).tobytes())
    return ds


def windowed() -> Dataset:
    return image(1, "1.2.8.4", "1.2.8", WindowCenter=["100", "0"], WindowWidth=["400", "1"])


def with_lut() -> Dataset:
    """A VOI LUT of 256 entries from -1024 on, which turns black to white."""
    ds = image(1, "1.2.8.6", "1.2.8")
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [256, -1024, 8])
    item.add_new("LUTData", "US", [255 - entry for entry in range(256)])
    ds.VOILUTSequence = [item]
    return ds


def enhanced() -> Dataset:
    """Each frame has a window of its own in the functional groups, the slope is shared."""
    ds = image(1, "1.2.8.7", "1.2.8", NumberOfFrames=2)
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.PixelData = pixels(1).tobytes() + pixels(2).tobytes()
    scaling = order(RescaleSlope="1", RescaleIntercept="-1024", RescaleType="HU")
    shared = Dataset()
    shared.PixelValueTransformationSequence = [scaling]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for center in ("0", "1000"):
        group = Dataset()
        group.FrameVOILUTSequence = [order(WindowCenter=center, WindowWidth="800")]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    return ds


def report() -> Dataset:
    ds = image(1, "1.2.8.5", "1.2.8", SOPClassUID=ComprehensiveSRStorage, Modality="SR")
    del ds.PixelData
    return ds


def picture(content: bytes) -> np.ndarray:
    with Image.open(BytesIO(content)) as opened:
        return np.asarray(opened).astype(int)


def png(archive: Archive, path: str) -> np.ndarray:
    answer = archive.get(path, "image/png")
    assert answer.status_code == 200, answer.text
    return picture(answer.content)


def window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, as it is written there."""
    grey = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    return np.where(
        values <= center - 0.5 - (width - 1) / 2,
        0,
        np.where(values > center - 0.5 + (width - 1) / 2, 255, grey),
    )


def hounsfield(number: int = 1) -> np.ndarray:
    return pixels(number).astype(float) - 1024


def test_without_a_window_the_least_value_is_black_and_the_greatest_white(archive: Archive):
    values = hounsfield()
    expected = (values - values.min()) / (values.max() - values.min()) * 255
    np.testing.assert_allclose(png(archive, f"{INSTANCE}/rendered"), expected, atol=1)


def test_the_window_of_the_query_goes_before_that_of_the_header(archive: Archive):
    shown = png(archive, f"{WINDOWED}/rendered?window=500,1000,linear")
    np.testing.assert_allclose(shown, window(hounsfield(), 500, 1000), atol=1)
    shown = png(archive, f"{WINDOWED}/rendered")
    np.testing.assert_allclose(shown, window(hounsfield(), 100, 400), atol=1)


def test_the_window_functions_are_those_of_the_standard(archive: Archive):
    exact = np.clip((hounsfield() - 500) / 1000 + 0.5, 0, 1) * 255
    shown = png(archive, f"{INSTANCE}/rendered?window=500,1000,linear-exact")
    np.testing.assert_allclose(shown, exact, atol=1)
    sigmoid = 255 / (1 + np.exp(-4 * (hounsfield() - 500) / 1000))
    np.testing.assert_allclose(png(archive, f"{INSTANCE}/rendered?window=500,1000,sigmoid"), sigmoid, atol=1)


def test_monochrome1_is_inverted_and_colours_are_shown(archive: Archive):
    upright, inverted = (png(archive, f"{path}/rendered") for path in (INSTANCE, INVERSE))
    assert (upright + inverted == 255).all()
    np.testing.assert_array_equal(png(archive, f"{COLOR}/rendered"), colors())
    value = np.arange(192).reshape(12, 16)
    expected = np.stack([value, 255 - value, np.full_like(value, 7)], -1)
    np.testing.assert_array_equal(png(archive, f"{PALETTE}/rendered"), expected)


def test_a_voi_lut_and_the_windows_of_single_frames_are_obeyed(archive: Archive):
    entry = np.clip(hounsfield() + 1024, 0, 255)
    np.testing.assert_allclose(png(archive, f"{LUT}/rendered"), 255 - entry, atol=1)
    for number, center in ((1, 0), (2, 1000)):
        shown = png(archive, f"{ENHANCED}/frames/{number}/rendered")
        np.testing.assert_allclose(shown, window(hounsfield(number), center, 800), atol=1)


def test_jpeg_is_the_default_and_its_quality_is_obeyed(archive: Archive):
    answers = [archive.get(f"{INSTANCE}/rendered?viewport=512,512&quality={q}") for q in (10, 95)]
    assert [answer.headers["Content-Type"] for answer in answers] == ["image/jpeg"] * 2
    assert len(answers[0].content) < len(answers[1].content)


def test_a_gif_of_one_frame_is_the_picture_itself(archive: Archive):
    for path in (INSTANCE, f"{VOLUME}/frames/1"):
        answer = archive.get(f"{path}/rendered", "image/gif")
        assert answer.headers["Content-Type"] == "image/gif"
        with Image.open(BytesIO(answer.content)) as opened:
            assert opened.n_frames == 1
            assert (np.asarray(opened.convert("L")) == png(archive, f"{path}/rendered")).all()


def test_a_gif_of_a_multi_frame_instance_moves_as_fast_as_its_header_says(archive: Archive):
    answer = archive.get(f"{VOLUME}/rendered?viewport=8,6", "image/gif")
    with Image.open(BytesIO(answer.content)) as opened:
        assert (opened.n_frames, opened.size, opened.info["duration"]) == (3, (8, 6), 40)
        for number in (1, 2, 3):
            opened.seek(number - 1)
            shown = np.asarray(opened.convert("L"))
            assert (shown == png(archive, f"{VOLUME}/frames/{number}/rendered?viewport=8,6")).all()


def test_a_gif_of_more_pixels_than_memory_should_hold_is_406(archive: Archive, monkeypatch):
    monkeypatch.setattr(pictures, "_MOVING_PIXELS", 3 * 16 * 12 - 1)
    assert archive.get(f"{VOLUME}/rendered", "image/gif").status_code == 406


def test_a_film_is_not_made_of_frames(archive: Archive):
    assert archive.get(f"{VOLUME}/rendered", "video/mp4").status_code == 406


def test_a_viewport_is_filled_in_proportion_cut_out_and_mirrored(archive: Archive):
    assert png(archive, f"{INSTANCE}/rendered?viewport=100,100").shape == (75, 100)
    whole = png(archive, f"{INSTANCE}/rendered")
    region = png(archive, f"{INSTANCE}/rendered?viewport=4,4,8,2,4,4")
    np.testing.assert_array_equal(region, whole[2:6, 8:12])
    mirrored = png(archive, f"{INSTANCE}/rendered?viewport=16,12,0,0,-16,12")
    np.testing.assert_array_equal(mirrored, whole[:, ::-1])


def test_each_frame_has_a_picture_of_its_own(archive: Archive):
    values = hounsfield(3)
    expected = (values - values.min()) / (values.max() - values.min()) * 255
    np.testing.assert_allclose(png(archive, f"{VOLUME}/frames/3/rendered"), expected, atol=1)
    answer = archive.get(f"{VOLUME}/frames/1,2/rendered", "multipart/related; type=image/png")
    assert answer.headers["Content-Type"].startswith('multipart/related; type="image/png"')
    assert answer.content.count(b"\x89PNG") == 2


def test_a_series_is_rendered_in_parts_and_what_has_no_pixels_is_left_out(archive: Archive):
    assert archive.get(f"/studies/{STUDY}/series/{SERIES}/rendered").content.count(b"\xff\xd8\xff") == 2
    assert archive.get("/studies/1.2.8/rendered").content.count(b"\xff\xd8\xff") == 6


@pytest.mark.parametrize(
    "path", [f"/studies/{STUDY}", f"/studies/{STUDY}/series/{SERIES}", VOLUME, f"{VOLUME}/frames/2", COLOR]
)
def test_a_thumbnail_is_one_small_picture(archive: Archive, path: str):
    answer = archive.get(f"{path}/thumbnail")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert max(picture(answer.content).shape[:2]) == 128
    assert max(picture(archive.get(f"{path}/thumbnail?viewport=64,64").content).shape[:2]) == 64


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (f"{INSTANCE}/rendered", "image/jp2", 406),
        (f"{INSTANCE}/rendered", "video/mp4", 406),
        (f"{REPORT}/rendered", "image/jpeg", 406),
        (f"{REPORT}/thumbnail", None, 404),
        (f"{VOLUME}/frames/9/rendered", None, 404),
        (f"{INSTANCE}/rendered?window=1,0,linear", None, 400),
        (f"{INSTANCE}/rendered?window=1", None, 400),
        (f"{INSTANCE}/rendered?window=1,2,cubic", None, 400),
        (f"{INSTANCE}/rendered?viewport=0,9", None, 400),
        (f"{INSTANCE}/rendered?viewport=99999,9", None, 400),
        (f"{INSTANCE}/rendered?viewport=9,9,100,100,5,5", None, 400),
        (f"{INSTANCE}/rendered?quality=101", None, 400),
        (f"{INSTANCE}/rendered?annotation=patient", None, 400),
        (f"{INSTANCE}/rendered?colour=red", None, 400),
        (f"{INSTANCE}/rendered?iccprofile=srgb", None, 400),
        (f"{INSTANCE}/thumbnail?annotation=patient", None, 400),
        (f"{REPORT}/rendered?window=1,2,linear", "text/html", 400),
    ],
)
def test_what_cannot_be_rendered_is_refused(archive: Archive, path: str, accept: str | None, status: int):
    assert archive.get(path, accept).status_code == status


def wado(number: int = 1, **more: str) -> str:
    named = {"requestType": "WADO", "studyUID": STUDY, "seriesUID": SERIES, "objectUID": f"{SERIES}.{number}"}
    return "/wado?" + "&".join(f"{name}={value}" for name, value in (named | more).items())


def test_wado_uri_gives_the_instance(archive: Archive):
    answer = archive.get(wado(contentType="application/dicom"))
    assert answer.headers["Content-Type"].startswith("application/dicom; transfer-syntax=")
    ds = dcmread(BytesIO(answer.content))
    assert (ds.pixel_array == pixels(1)).all()
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    packed = archive.get(wado(contentType="application/dicom", transferSyntax=RLELossless))
    assert dcmread(BytesIO(packed.content)).file_meta.TransferSyntaxUID == RLELossless


def test_wado_uri_gives_pictures(archive: Archive):
    answer = archive.get(wado())
    assert answer.headers["Content-Type"] == "image/jpeg"
    shown = picture(
        archive.get(wado(contentType="image/png", windowCenter="500", windowWidth="1000")).content
    )
    np.testing.assert_allclose(shown, window(hounsfield(), 500, 1000), atol=1)
    assert picture(archive.get(wado(contentType="image/png", columns="32")).content).shape == (24, 32)
    of_volume = {"seriesUID": "1.2.3.5", "objectUID": "1.2.3.5.1", "contentType": "image/png"}
    np.testing.assert_array_equal(
        picture(archive.get(wado(frameNumber="3", **of_volume)).content),
        png(archive, f"{VOLUME}/frames/3/rendered"),
    )


def test_wado_uri_cuts_a_region_out_and_makes_it_as_large_as_is_wanted(archive: Archive):
    whole = picture(archive.get(wado(contentType="image/png")).content)
    cut = {"contentType": "image/png", "region": "0.25,0.5,1,1"}
    np.testing.assert_array_equal(picture(archive.get(wado(**cut)).content), whole[6:, 4:])
    assert picture(archive.get(wado(**cut, columns="24")).content).shape == (12, 24)
    assert picture(archive.get(wado(**cut, columns="24", rows="6")).content).shape == (6, 12)


def test_wado_uri_gives_the_bytes_as_they_are_stored_where_any_syntax_is_taken(archive: Archive):
    answer = archive.get(wado(contentType="application/dicom", transferSyntax="*"))
    assert answer.content == archive.get(INSTANCE, "application/dicom; transfer-syntax=*").content


def test_wado_uri_gives_a_report_as_what_it_is(archive: Archive):
    named = {"studyUID": "1.2.8", "seriesUID": "1.2.8.5", "objectUID": "1.2.8.5.1"}
    assert archive.get(wado(**named)).headers["Content-Type"].startswith("application/dicom;")


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"requestType": "OTHER"}, 400),
        ({"objectUID": ""}, 400),
        ({"objectUID": "1.2.404"}, 404),
        ({"contentType": "video/mpeg"}, 406),
        ({"contentType": "image/png", "windowCenter": "5"}, 400),
        ({"contentType": "image/png", "frameNumber": "2"}, 404),
        ({"contentType": "image/png", "rows": "-1"}, 400),
        ({"contentType": "application/dicom", "transferSyntax": "x"}, 400),
        ({"contentType": "application/dicom", "anonymize": "yes"}, 400),
        ({"contentType": "application/dicom", "region": "0,0,1,1"}, 400),
        ({"contentType": "application/dicom", "frameNumber": "1"}, 400),
        ({"contentType": "image/png", "transferSyntax": RLELossless}, 400),
        ({"contentType": "image/png", "annotation": "patient,technique"}, 400),
        ({"contentType": "image/png", "presentationUID": "1.2.3"}, 400),
        ({"contentType": "image/jpeg", "imageQuality": "0"}, 400),
        *(
            ({"contentType": "image/png", "region": region}, 400)
            for region in ("", "0,0,1", "0,0,1,2", "0.5,0,0.5,1", "0,1,1,0", "a,0,1,1")
        ),
    ],
)
def test_wado_uri_refuses_what_it_cannot_do(archive: Archive, more: dict[str, str], status: int):
    assert archive.get(wado(**more)).status_code == status


def test_no_answer_names_a_patient_in_its_headers(archive: Archive):
    for path in (INSTANCE, f"{INSTANCE}/rendered", wado()):
        assert not re.search("doe|jane", str(archive.get(path).headers), re.IGNORECASE)
