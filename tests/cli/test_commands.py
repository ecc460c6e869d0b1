"""What the commands answer where something is wrong, and what explain shows."""

from __future__ import annotations

import json
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.supervisor import EXIT_CONFIG
from tests.harness.heads import small_series, write_series
from tests.harness.nodes import RunningNode
from tests.harness.toy_pipeline import write_toy_pipeline

ROUTES = """
[[route]]
name = "brain"
when = 'series.modality == "MR" && series.description.matches("(?i)t1") && series.slice_thickness <= 1.5'
pipeline = "toy"
on_match = "stop"
[[route]]
name = "everything from CT1"
when = 'association.calling_ae == "CT1" || series.modality == "CT"'
pipeline = "toy"
"""


@pytest.fixture
def node(tmp_path: Path) -> RunningNode:
    write_toy_pipeline(tmp_path / "pipelines")
    return RunningNode(tmp_path / "node", pipelines=tmp_path / "pipelines", routes=ROUTES)


def broken(node: RunningNode, before: str, after: str) -> str:
    text = node.config.read_text()
    assert before in text
    node.config.write_text(text.replace(before, after))
    done = node.run("serve")
    assert done.returncode == EXIT_CONFIG
    return done.stderr


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('ae_title = "NODE"', 'ae_titel = "NODE"', "node.ae_titel: no such key; did you mean 'ae_title'?"),
        (
            'pipeline = "toy"\non',
            'pipeline = "tay"\non',
            "route[1].pipeline: 'tay' is not installed; there are toy",
        ),
        ('series.modality == "MR"', 'series.modalty == "MR"', "did you mean series.modality?"),
        ('series.modality == "MR"', 'series.modality = = "MR"', "route[1].when"),
    ],
)
def test_a_node_with_a_mistake_in_its_settings_does_not_start_and_says_where(node, before, after, told):
    message = broken(node, before, after)
    assert told in message
    assert str(node.config) in message
    assert "Traceback" not in message


def test_a_port_that_is_taken_is_named_before_anything_starts(node):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = broken(node, "port = 0", f"port = {port}")
    assert f"dimse.port: cannot listen on 127.0.0.1 port {port}: Address already in use" in message


def test_a_schema_from_the_future_stops_the_start_and_names_the_way_out(node):
    assert node.run("db", "upgrade").returncode == 0
    from dicomnode.config import load_config
    from dicomnode.installation import open_stores

    stores = open_stores(load_config(node.config, {}))
    with stores.database.begin() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    stores.database.close()
    for command in (("serve",), ("status",)):
        done = node.run(*command)
        assert done.returncode == 1
        assert "9999" in done.stderr
    assert node.run("db", "status").returncode == 1


def test_explain_shows_each_condition_with_the_value_that_decided_it(node, tmp_path):
    write_series(tmp_path / "series", small_series(3))
    done = node.run("routes", "explain", str(tmp_path / "series"))
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "✗ route brain: does not match" in shown
    assert '✓ series.modality == "MR" series.modality = "MR"' in shown
    assert "✗ series.slice_thickness <= 1.5 series.slice_thickness = 2.0" in shown


def test_explain_in_json_holds_the_same_and_says_what_is_missing(node, tmp_path):
    series = small_series(3, Modality="CT")
    for ds in series:
        del ds.SliceThickness
    write_series(tmp_path / "series", series)
    done = node.run("routes", "explain", str(tmp_path / "series"), "--calling-ae", "CT1", "--json")
    brain, everything = json.loads(done.stdout)[0]["routes"]
    assert not brain["matched"]
    assert brain["conditions"][2]["outcome"] is None
    assert brain["conditions"][2]["note"] == "series.slice_thickness is not in the header"
    assert everything["matched"]


def test_a_data_folder_that_is_none_is_named_with_its_key(node):
    (node.folder / "afile").touch()
    node.config.write_text(node.config.read_text().replace('data = "data"', 'data = "afile/data"'))
    done = node.run("serve")
    assert done.returncode == 78
    assert "node.data" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_delivery_that_does_not_exist_cannot_be_started_again(node):
    assert node.run("db", "upgrade").returncode == 0
    done = node.run("deliveries", "retry", "7")
    assert done.returncode == 1
    assert "delivery" in done.stderr


def test_what_does_not_exist_is_told_in_one_line(node):
    node.run("db", "upgrade")
    for command in (("jobs", "show", "7"), ("series", "complete", "1.2.3"), ("status", "1.2.3")):
        done = node.run(*command)
        assert done.returncode == 1
        assert done.stderr.startswith("dicomnode: no ")
        assert done.stderr.count("\n") == 1


def test_the_version_is_the_packages():
    assert CliRunner().invoke(app, ["--version"]).output == f"dicomnode {version('dicomnode')}\n"
