"""A pipeline is what its files are; what could run code unseen is refused."""

from __future__ import annotations

import shutil

import pytest

from dicomnode.errors import ConfigError, NotFound
from dicomnode.pipeline.registry import Registry, open_pipeline, verify_pipeline
from dicomnode.rules.rule import check_rule
from tests.harness.toy_pipeline import write_toy_pipeline


def replace(file, old, new):
    def edit(folder):
        path = folder / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return edit


def test_a_registry_knows_its_pipelines_by_name(tmp_path):
    write_toy_pipeline(tmp_path)
    registry = Registry.open(tmp_path, check_rule)
    assert registry.names() == ("toy",)
    assert registry.get("toy").manifest.segment[0].name == "bright"
    assert registry.verify() == []
    with pytest.raises(NotFound):
        registry.get("other")


def test_versions_lie_side_by_side_and_what_comes_or_goes_later_is_known_by_its_digest(tmp_path):
    for version in ("1.10.0", "1.9.0"):
        write_toy_pipeline(tmp_path, version=version)
    registry = Registry.open(tmp_path, check_rule)
    assert [each.version.version for each in registry.versions("toy")] == ["1.9.0", "1.10.0"]
    assert registry.get("toy", "1.9.0").folder.name == "toy-1.9.0"
    with pytest.raises(NotFound):
        registry.get("toy", "1.11.0")
    later = open_pipeline(write_toy_pipeline(tmp_path, level=9, version="1.11.0"), check_rule)
    broken = write_toy_pipeline(tmp_path, version="broken")
    (broken / "pipeline.toml").write_text("[")
    assert registry.pinned("toy", later.digest) == later, "what is broken beside it does not matter"
    (later.folder / "scripts" / "network.py").write_text("x = 1\n")
    changed = open_pipeline(later.folder, check_rule)
    assert registry.pinned("toy", changed.digest) == changed
    shutil.rmtree(later.folder)
    with pytest.raises(NotFound):
        registry.pinned("toy", changed.digest)


def test_one_version_in_two_folders_is_refused(tmp_path):
    shutil.copytree(write_toy_pipeline(tmp_path), tmp_path / "again")
    with pytest.raises(ConfigError, match=r"'toy' 1\.0\.0 is installed twice"):
        Registry.open(tmp_path, check_rule)


def test_the_digest_changes_with_what_decides_the_answer_and_with_nothing_else(install):
    pipeline = install()
    (pipeline.folder / "docs" / "more.md").write_text("x")
    (pipeline.folder / "scripts" / "__pycache__").mkdir()
    (pipeline.folder / "scripts" / "__pycache__" / "network.cpython-311.pyc").write_text("x")
    assert verify_pipeline(pipeline) == []
    (pipeline.folder / "scripts" / "network.py").write_text("x = 1\n")
    assert verify_pipeline(pipeline) == ["its files changed since it was opened"]


def test_weights_that_are_no_safetensors_are_found(install):
    pipeline = install(
        lambda folder: (folder / "models" / "model.safetensors").write_bytes(b"\x80\x04pickle")
    )
    assert verify_pipeline(pipeline) == ["model.safetensors is no safetensors file"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (replace("pipeline.toml", "memory_mb", "memory_gb"), "did you mean 'memory_mb'"),
        (replace("pipeline.toml", "series.modality ==", "series.modalty =="), "did you mean series.modality"),
        (
            replace("pipeline.toml", "series.modality ==", "series.modality"),
            "require[1].when: line 1, column",
        ),
        (
            replace("pipeline.toml", "models/model.safetensors", "../model.safetensors"),
            "no .safetensors file in",
        ),
        (
            lambda folder: (folder / "models" / "old.pth").write_bytes(b""),
            "models/old.pth may hold pickled code",
        ),
        (
            lambda folder: (folder / "scripts" / "evil.py").symlink_to("/etc/passwd"),
            "scripts/evil.py is a link",
        ),
        (lambda folder: (folder / "configs" / "metadata.json").unlink(), "configs/metadata.json is missing"),
        (lambda folder: (folder / "pipeline.toml").write_text("["), "is not TOML"),
        (
            replace("pipeline.toml", 'input = "volume"', 'input = "volume"\noutputs = ["NOTICE"]'),
            "the node makes it",
        ),
        (
            replace("pipeline.toml", 'input = "volume"', 'input = "projection"\noutputs = ["RTSTRUCT"]'),
            "needs a place in the patient",
        ),
    ],
)
def test_a_wrong_pipeline_is_refused_with_what_is_wrong(install, edit, words):
    with pytest.raises(ConfigError) as caught:
        install(edit)
    assert words in str(caught.value)
