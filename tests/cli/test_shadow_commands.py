"""What an administrator sees of versions and shadows, and is asked before one becomes the active one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.cli.common import actor
from dicomnode.errors import ConfigError, NotFound
from dicomnode.model.comparison import (
    AnswerCompared,
    Comparison,
    Ended,
    FindingCompared,
    SegmentCompared,
    compared_number,
)
from dicomnode.model.job import JobState
from dicomnode.store import comparisons
from tests.services.test_shadows import Node

FOUND = Comparison(
    active=Ended(state=JobState.DONE, code=None, seconds=2.0),
    shadow=Ended(state=JobState.DONE, code=None, seconds=3.0),
    same_input=True,
    segments=(SegmentCompared(segment="Liver", dice=0.875, active_ml=1500.0, shadow_ml=1480.0),),
    numbers=(compared_number("Liver", "Volume", "ml", 1500.0, 1480.0),),
    findings=(FindingCompared(finding="Nodule", active=2, shadow=3),),
    answers=(AnswerCompared(question="Quality", active="Good", shadow="Poor"),),
)
REFUSED = FOUND.model_copy(update={"active": Ended(state=JobState.REFUSED, code="BLANK", seconds=1.0)})


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Three series that both versions have run on, one of them compared each way and one not yet."""
    node = Node(tmp_path, f"sqlite:///{tmp_path / 'dicomnode.sqlite3'}")
    node.shadow(50)
    node.shadow(100)
    for number in (1, 2, 3):
        node.series(f"1.2.3.{number}")
    for _ in range(5):
        node.finish()
    with node.database.begin() as tx:
        for found in (FOUND, REFUSED):
            due = comparisons.next_due(tx)
            assert due is not None
            assert comparisons.settle(tx, due, found.model_dump(mode="json"))
    settings = (
        '[node]\ndata = "."\nminimum_free_mb = 1\n[[route]]\nname = "r"\nwhen = "true"\npipeline = "toy"\n'
    )
    (tmp_path / "config.toml").write_text(settings)
    yield node
    node.database.close()


def run(node: Node, *arguments: str, answer: str | None = None) -> str:
    config = node.pipelines.parent / "config.toml"
    done = CliRunner().invoke(app, [*arguments, "--config", str(config)], input=answer)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return " ".join(done.output.split())


def test_a_summary_names_medians_the_worst_series_and_those_that_ended_otherwise(node: Node):
    told = run(node, "pipelines", "compare", "toy")
    assert "toy 2.0.0 beside 1.0.0" in told
    assert "series compared 2 with results of both 1 not ended yet 1" in told
    assert "ended otherwise: active refused (BLANK), shadow done 1" in told
    assert "Liver 1 0.8750 0.8750 -20" in told
    assert "Liver Volume 1 -20 ml -1.333 -1.333" in told
    (pair,) = json.loads(run(node, "pipelines", "compare", "toy", "--version", "2.0.0", "--json"))
    assert (pair["series"], pair["both_done"], pair["waiting"], pair["findings_differ"]) == (2, 1, 1, 1)
    assert [each["SeriesInstanceUID"] for each in pair["worst"]] == ["1.2.3.1"]
    assert [each["SeriesInstanceUID"] for each in pair["refused"]] == ["1.2.3.2"]
    with pytest.raises(NotFound):
        run(node, "pipelines", "compare", "toy", "--version", "3.0.0")


def test_one_series_is_told_in_all_detail(node: Node):
    told = run(node, "pipelines", "compare", "toy", "--series", "1.2.3.1")
    for words in (
        "found: Nodule 2 3",
        "Quality Good Poor",
        "Liver 0.8750 1500 1480",
        "seconds of the run 2 3",
    ):
        assert words in told
    assert "not both jobs have ended" in run(node, "pipelines", "compare", "toy", "--series", "1.2.3.3")
    (row,) = json.loads(run(node, "pipelines", "compare", "toy", "--series", "1.2.3.1", "--json"))
    assert row["found"]["segments"][0]["dice"] == 0.875


def test_every_list_of_jobs_says_which_are_shadows(node: Node):
    assert "toy, shadow of 1 2.0.0" in run(node, "jobs", "list")
    assert "shadow_of 1" in run(node, "jobs", "show", "2")
    told = run(node, "status")
    assert "jobs: 3 done · in shadows: 2 done, 1 ready" in told
    assert "shadow of job 1" in told
    listed = json.loads(run(node, "jobs", "list", "--json"))
    assert {job["id"]: job["shadow_of"] for job in listed} == {1: None, 2: 1, 3: None, 4: 3, 5: None, 6: 5}


def test_a_promotion_is_asked_for_and_pipelines_list_says_who_gave_it(node: Node):
    asked = run(node, "pipelines", "promote", "toy", "2.0.0", answer="n\n")
    assert "only 1 series were compared with toy 2.0.0" in asked
    assert used(node) == {"1.0.0": ("active", "dicomnode"), "2.0.0": ("shadow", "jane")}
    assert "shadow 100 %" in run(node, "pipelines", "list")
    run(node, "pipelines", "promote", "toy", "2.0.0", "--yes")
    assert used(node) == {"1.0.0": ("idle", None), "2.0.0": ("active", actor())}
    run(node, "pipelines", "shadow", "toy", "1.0.0", "--percent", "5")
    assert "toy 1.0.0 is the active version again" in run(node, "pipelines", "rollback", "toy")
    assert used(node) == {"1.0.0": ("active", actor()), "2.0.0": ("idle", None)}
    with pytest.raises(NotFound):
        run(node, "pipelines", "shadow", "toy", "2.0.0", "--stop")
    (node.pipelines / "toy-2.0.0" / "models" / "model.safetensors").write_bytes(b"pickle")
    with pytest.raises(ConfigError):
        run(node, "pipelines", "promote", "toy", "2.0.0", "--yes")
    assert "toy: 2.0.0 has other files than digest" in run(node, "status"), "a job waits for what was there"


def used(node: Node) -> dict[str, tuple[str, str | None]]:
    listed = json.loads(run(node, "pipelines", "list", "--json"))
    return {each["version"]: (each["use"], each["actor"]) for each in listed}
