"""A new version comes into service: it runs in the shadow, is compared, promoted, and only then delivers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.dimse.query import listed_instances
from tests import peers
from tests.acceptance.test_way_of_a_study import route_to
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode, wait_for
from tests.harness.toy_pipeline import write_toy_pipeline

BOX, RIM = 5 * 9 * 6, 90
"""Voxels above both thresholds, and those that only the first version's threshold lets in."""
VOXEL_ML = 1.5 * 1.0 * 2.0 / 1000


def head_with_a_rim(folder: Path) -> list[Path]:
    series = small_series()
    for ds in series[2:5]:
        pixels = ds.pixel_array.copy()
        pixels[20:25, 10:16] = 600
        ds.PixelData = pixels.astype("<u2").tobytes()
    assert sum(int((ds.pixel_array == 600).sum()) for ds in series) == RIM
    return write_series(folder, series)


def scan(node: RunningNode, files: list[Path]) -> None:
    peers.run("storescu", "-aec", "NODE", "127.0.0.1", node.port, *files)


def dicomnode(node: RunningNode, *arguments: str, answer: str | None = None) -> str:
    done = CliRunner().invoke(app, [*arguments, "--config", str(node.config)], input=answer)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def arrived(folder: Path, number: int) -> dict[str, pydicom.Dataset]:
    """What the archive has, by modality, once it has so much; the last of each."""
    wait_for(f"{number} files", lambda: len(list(folder.iterdir())) == number)
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return {ds.Modality: ds for ds in map(pydicom.dcmread, found)}


def versions_named(ds: pydicom.Dataset) -> set[str]:
    """The versions of the algorithm that a result names anywhere."""
    named = {str(element.value) for element in ds.iterall() if element.keyword == "AlgorithmVersion"}
    told = [item for item in ds.iterall() if item.VR == "SQ" and item.keyword == "ContentSequence"]
    for sequence in told:
        for item in sequence.value:
            if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeValue == "111003":
                named.add(str(item.TextValue))
    return named


def test_a_version_in_the_shadow_is_compared_and_delivers_only_after_it_is_promoted(tmp_path: Path):
    received = tmp_path / "received"
    write_toy_pipeline(tmp_path / "pipelines", level=500)
    with peers.storescp(received) as archive:
        routes = route_to(archive).replace("[[route]]", 'confirm = "none"\n[[route]]')
        node = RunningNode(tmp_path / "node", pipelines=tmp_path / "pipelines", routes=routes).start()
        try:
            write_toy_pipeline(tmp_path / "pipelines", level=700, version="2.0.0")
            dicomnode(node, "pipelines", "shadow", "toy", "2.0.0")
            files = head_with_a_rim(tmp_path / "first")
            scan(node, files)
            wait_for("the shadow's run", lambda: node.status()["shadow_jobs"] == {"done": 1}, 120)
            (pair,) = wait_for("the comparison", lambda: compared(node))
            assert (pair["active_version"], pair["shadow_version"], pair["both_done"]) == (
                "1.0.0",
                "2.0.0",
                1,
            )
            (segment,), (number,) = pair["segments"], pair["numbers"]
            assert segment["median_dice"] == 2 * BOX / (2 * BOX + RIM)
            assert np.isclose(segment["median_ml"], -RIM * VOXEL_ML)
            assert np.isclose(number["median_difference"], -RIM * VOXEL_ML)
            assert (number["of"], number["unit"], round(number["median_percent"], 4)) == (
                "Tissue",
                "ml",
                round(-100 * RIM / (BOX + RIM), 4),
            )
            assert pair["worst"][0]["SeriesInstanceUID"] == pydicom.dcmread(files[0]).SeriesInstanceUID
            first = arrived(received, 2)
            assert {modality: versions_named(ds) for modality, ds in first.items()} == {
                "SEG": {"1.0.0"},
                "SR": {"1.0.0"},
            }
            status = node.status()
            assert (status["jobs"], status["shadow_jobs"]) == ({"done": 1}, {"done": 1})
            (job, shadow) = status["list"][0]["series"][0]["jobs"]
            assert (shadow["shadow_of"], len(shadow["results"])) == (job["id"], 2)
            for result in shadow["results"]:
                assert result["deliveries"] == []
                of_series = (first["SR"].StudyInstanceUID, result["SeriesInstanceUID"])
                assert listed_instances(node.peer, "TEST", *of_series) == set()

            assert "only 1 series" in dicomnode(node, "pipelines", "promote", "toy", "2.0.0", answer="n\n")
            dicomnode(node, "pipelines", "promote", "toy", "2.0.0", "--yes")
            scan(node, head_with_a_rim(tmp_path / "second"))
            second = arrived(received, 4)
            assert {versions_named(ds) == {"2.0.0"} for ds in second.values()} == {True}
            assert second["SEG"].pixel_array.sum() == BOX
            assert node.status()["shadow_jobs"] == {"done": 1}
        finally:
            node.kill()


def compared(node: RunningNode) -> list[dict]:
    try:
        pairs = json.loads(dicomnode(node, "pipelines", "compare", "toy", "--json"))
    except Exception as error:
        if "no comparison" in str(error):
            return []
        raise
    return pairs if pairs[0]["series"] else []
