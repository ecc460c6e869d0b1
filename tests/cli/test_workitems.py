"""An administrator orders work of another node by UPS Push."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicomnode.dimse.receiver import Receiver
from dicomnode.dimse.ups import ups_push
from dicomnode.services.workitems import WorkItems
from tests.dicomweb.worklist import order, running
from tests.dimse.nodes import AE_TITLE, SETTINGS
from tests.harness.heads import small_series
from tests.harness.toy_pipeline import write_toy_pipeline


def ask(config: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicomnode", "workitems", *map(str, arguments), "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_work_is_ordered_looked_at_and_cancelled_from_the_command_line(tmp_path: Path) -> None:
    write_toy_pipeline(tmp_path / "pipelines")
    config, file = tmp_path / "config.toml", tmp_path / "order.json"
    with running(f"sqlite:///{tmp_path / 'other.sqlite3'}", tmp_path, tmp_path / "pipelines") as other:
        receiver = Receiver(SETTINGS, [ups_push(WorkItems(other.database, other.registry, other.config))])
        receiver.start()
        datasets = small_series(2)
        other.receive(*datasets)
        place = (str(datasets[0].StudyInstanceUID), str(datasets[0].SeriesInstanceUID))
        file.write_text(json.dumps(order(place, WorklistLabel=None)))
        config.write_text(f'[[peer]]\nae_title = "{AE_TITLE}"\nhost = "127.0.0.1"\nport = {receiver.port}\n')
        created = ask(config, "create", AE_TITLE, file)
        assert (created.returncode, created.stderr) == (0, "created with modifications\n")
        uid = created.stdout.strip()
        assert Dataset.from_json(ask(config, "show", AE_TITLE, uid).stdout) == other.item(uid)
        assert ask(config, "cancel", AE_TITLE, uid, "--reason", "not needed").stdout == "cancelled\n"
        assert other.item(uid).ProcedureStepState == "CANCELED"
        assert ask(config, "cancel", AE_TITLE, uid).stdout == "it was cancelled before\n"
        receiver.stop(1)


@pytest.mark.parametrize("content", ["", "[]", '{"00400040": 1}', "no JSON"])
def test_a_file_that_is_no_data_set_is_said_to_be_none(tmp_path: Path, content: str) -> None:
    config, file = tmp_path / "config.toml", tmp_path / "order.json"
    config.write_text('[[peer]]\nae_title = "OTHER"\nhost = "127.0.0.1"\nport = 1\n')
    file.write_text(content)
    done = ask(config, "create", "OTHER", file)
    assert done.returncode == 2
    assert "no data set in the DICOM JSON model" in " ".join(done.stderr.split())


def test_a_peer_that_is_not_configured_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    done = ask(config, "show", "NOBODY", "1.2.3")
    assert (done.returncode, done.stderr) == (1, "dicomnode: no [[peer]] NOBODY\n")
