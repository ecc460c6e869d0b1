"""Every command that the README shows is run here, or is a target of the Makefile."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from dicomnode.config import load_config
from dicomnode.demo.scanner import scan_mni
from dicomnode.installation import Stores, open_registry, open_stores
from dicomnode.model.instance import AssociationFacts, Received
from dicomnode.services.completion import order_completion
from dicomnode.services.ingest import Ingest
from dicomnode.services.routing import RouteTable, RoutingService
from dicomnode.store import leases
from tests.harness.heads import small_series, write_series
from tests.harness.toy_pipeline import write_toy_pipeline

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
COMMANDS = [shlex.split(line, comments=True) for line in SHELL.splitlines() if line.startswith("dicomnode ")]
ADMINISTRATION = [
    # Work items are another node's: tests/cli/test_workitems.py has one.
    command[1:]
    for command in COMMANDS
    if command[1] not in ("serve", "pipelines", "workitems")
]
STUDY, SERIES = "1.2.840.113619.2.1", "1.2.840.113619.2.1.1"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's folder with the study of the README in it, and one dead job."""
    folder = tmp_path_factory.mktemp("node")
    write_toy_pipeline(folder / "pipelines")
    write_series(folder / "FOLDER", small_series(3, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES))
    config = folder / "config.toml"
    config.write_text(
        "[node]\nminimum_free_mb = 1\n"
        '[[route]]\nname = "toy"\nwhen = \'series.modality == "MR"\'\npipeline = "toy"\n'
    )
    stores = open_stores(load_config(config, {}))
    stores.database.upgrade()
    _receive(stores, folder / "FOLDER")
    order_completion(stores.database, SERIES)
    settings = load_config(config, {})
    RoutingService(stores.database, stores.objects, RouteTable(settings), open_registry(settings)).tick()
    with stores.database.begin() as tx:
        job = leases.claim(tx, "worker-1", 30)
        assert job is not None
        leases.give_up(tx, job.lease, "CRASHED", "the pipeline's process ended with -11")
    return config


def _receive(stores: Stores, folder: Path) -> None:
    ingest = Ingest(stores.database, stores.objects)
    for file in sorted(folder.iterdir()):
        ds = pydicom.dcmread(file)
        start = 144 + ds.file_meta.FileMetaInformationGroupLength
        ingest.store(
            Received(
                AssociationFacts("a", "MR1", "DICOMNODE", "127.0.0.1"),
                ds.SOPClassUID,
                ds.SOPInstanceUID,
                ds.file_meta.TransferSyntaxUID,
                file.read_bytes()[start:],
            )
        )


def dicomnode(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicomnode", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("command", ADMINISTRATION, ids=" ".join)
def test_each_command_for_the_administrator_does_what_it_says(command, config):
    done = dicomnode(*command, folder=config.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_readme_shows_every_group_of_commands():
    helped = dicomnode("--help", folder=ROOT).stdout
    groups = set(re.findall(r"^│ (\w+)  ", helped, re.MULTILINE))
    assert groups == {command[1] for command in COMMANDS}


@pytest.mark.parametrize("command", [c[1:] for c in COMMANDS if c[1] == "pipelines"], ids=" ".join)
def test_each_command_for_pipelines_does_what_it_says(command, tmp_path):
    scan_mni(tmp_path / "FOLDER")
    (tmp_path / "config.toml").write_text(f'[pipelines]\nfolder = "{ROOT / "pipelines"}"\n')
    done = dicomnode(*command, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    if command[1] == "run":
        assert {path.name for path in (tmp_path / "build" / "out").iterdir()} == {
            "brain_tissue-seg.dcm",
            "brain_tissue-sr.dcm",
        }


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake (?:[A-Z_]+=\S+ )*([a-z]+)", README))))
def test_each_make_target_that_is_named_exists(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
