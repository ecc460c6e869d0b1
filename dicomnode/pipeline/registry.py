"""The installed pipelines, each known by the digest of its files."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from dicomnode.errors import ConfigError, NotFound
from dicomnode.model.manifest import Manifest
from dicomnode.pipeline.manifest import MANIFEST, load_manifest

INFERENCE = "configs/inference.json"
METADATA = "configs/metadata.json"

_COVERED = ("configs", "models", "scripts")
_PICKLES = frozenset({".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_METADATA_KEYS = ("version", "monai_version", "task", "description", "network_data_format")


@dataclass(frozen=True, slots=True)
class InstalledPipeline:
    """A pipeline as it lies in `folder`; `digest` as `bundle_digest` gives it."""

    manifest: Manifest
    folder: Path
    digest: str


class Registry:
    """The pipelines of one folder."""

    def __init__(self, pipelines: Mapping[str, InstalledPipeline]) -> None:
        self._pipelines = dict(pipelines)

    @classmethod
    def open(cls, folder: Path, check_rule: Callable[[str], None]) -> Registry:
        """Each folder in `folder` that holds a pipeline.toml. Raises ConfigError with every problem."""
        found, problems = dict[str, InstalledPipeline](), list[str]()
        for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
            try:
                pipeline = open_pipeline(manifest.parent, check_rule)
            except ConfigError as error:
                problems += [f"{Path(error.file).relative_to(folder)}: {text}" for text in error.problems]
                continue
            name = pipeline.manifest.pipeline.name
            if name in found:
                problems.append(f"{manifest.parent.name}: {name!r} is installed twice")
            found[name] = pipeline
        if problems:
            raise ConfigError(folder, problems)
        return cls(found)

    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted(self._pipelines))

    def get(self, name: str) -> InstalledPipeline:
        """Raises NotFound."""
        try:
            return self._pipelines[name]
        except KeyError:
            raise NotFound("pipeline", name) from None

    def verify(self) -> list[str]:
        """What is wrong with the installed pipelines as they lie on the disk now; empty where nothing is."""
        return [f"{name}: {problem}" for name in self.names() for problem in verify_pipeline(self.get(name))]


def open_pipeline(folder: Path, check_rule: Callable[[str], None]) -> InstalledPipeline:
    """One pipeline. Raises ConfigError, also for links, pickled weights and missing files."""
    manifest = load_manifest(folder, check_rule)
    problems = _unfit(folder, manifest)
    if problems:
        raise ConfigError(folder / MANIFEST, problems)
    return InstalledPipeline(manifest, folder.resolve(), bundle_digest(folder))


def bundle_digest(folder: Path) -> str:
    """SHA-256 over the sorted lines `<sha256 of a file>  <its path>` of what decides a pipeline's answer."""
    digest = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def verify_pipeline(pipeline: InstalledPipeline) -> list[str]:
    """Problems of one pipeline: changed files, metadata, weights that are no safetensors."""
    folder = pipeline.folder
    problems = _unfit(folder, pipeline.manifest)
    if not problems and bundle_digest(folder) != pipeline.digest:
        problems.append("its files changed since it was opened")
    problems += _metadata_problems(folder / METADATA)
    return problems + _weights_problems(folder / pipeline.manifest.pipeline.weights)


def _files(folder: Path) -> Iterator[Path]:
    inside = (path for part in _COVERED for path in (folder / part).rglob("*") if path.is_file())
    yield from sorted(
        [folder / MANIFEST, *(path for path in inside if "__pycache__" not in path.parts)],
        key=lambda path: path.relative_to(folder).as_posix(),
    )


def _unfit(folder: Path, manifest: Manifest) -> list[str]:
    problems = [
        f"{path.relative_to(folder)} is a link"
        for path in [folder, *(path for part in (*_COVERED, MANIFEST) for path in _all(folder / part))]
        if path.is_symlink()
    ]
    problems += [
        f"{path.relative_to(folder)} may hold pickled code: weights are safetensors only"
        for path in _files(folder)
        if path.suffix in _PICKLES
    ]
    weights = manifest.pipeline.weights
    if Path(weights).suffix != ".safetensors" or Path(weights).parts[:1] != ("models",) or ".." in weights:
        problems.append(f"pipeline.weights: {weights!r} is no .safetensors file in models/")
    for needed in (weights, INFERENCE, METADATA):
        if not (folder / needed).is_file():
            problems.append(f"{needed} is missing")
    return problems


def _all(path: Path) -> list[Path]:
    return [path, *path.rglob("*")]


def _metadata_problems(file: Path) -> list[str]:
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [f"{METADATA} cannot be read"]
    if not isinstance(metadata, dict):
        return [f"{METADATA} is no object"]
    return [f"{METADATA}: {key} is missing" for key in _METADATA_KEYS if key not in metadata]


def _weights_problems(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="numpy") as weights:
            return [] if list(weights.keys()) else [f"{file.name} holds no tensor"]
    except (OSError, SafetensorError, ValueError, struct.error):
        return [f"{file.name} is no safetensors file"]
