"""The installed pipelines, each known by the digest of its files."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from safetensors import SafetensorError, safe_open

from dicomnode.errors import ConfigError, NotFound
from dicomnode.model.manifest import Manifest
from dicomnode.model.version import Version
from dicomnode.pipeline.manifest import MANIFEST, load_manifest

log = structlog.get_logger()

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

    @property
    def version(self) -> Version:
        """Which bundle this is."""
        return Version(self.manifest.pipeline.name, self.manifest.pipeline.version, self.digest)


class Registry:
    """The pipelines of one folder, any number of versions of each.

    What is installed, taken away or changed while a process runs is noticed when somebody asks for a digest
    that it does not know: then the folders whose files changed are read again.
    """

    def __init__(self, folder: Path, check_rule: Callable[[str], None]) -> None:
        self._folder, self._check_rule = folder, check_rule
        self._seen: Mapping[Path, _Seen] = {}

    @classmethod
    def open(cls, folder: Path, check_rule: Callable[[str], None]) -> Registry:
        """Each folder in `folder` that holds a pipeline.toml. Raises ConfigError with every problem."""
        registry = cls(folder, check_rule)
        if problems := registry._read():
            raise ConfigError(folder, problems)
        return registry

    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(sorted({each.manifest.pipeline.name for each in self.all()}))

    def all(self) -> tuple[InstalledPipeline, ...]:
        """Every version of every pipeline, by name, then from the earliest version to the latest."""
        return tuple(sorted((each.pipeline for each in self._seen.values()), key=_place))

    def versions(self, name: str) -> tuple[InstalledPipeline, ...]:
        """The versions of a pipeline, the earliest first. Raises NotFound where there is none."""
        found = tuple(each for each in self.all() if each.manifest.pipeline.name == name)
        if not found:
            raise NotFound("pipeline", name)
        return found

    def get(self, name: str, version: str | None = None) -> InstalledPipeline:
        """That version of a pipeline; the latest where none is named. Raises NotFound."""
        found = self.versions(name)
        if version is None:
            return found[-1]
        for each in found:
            if each.manifest.pipeline.version == version:
                return each
        raise NotFound(f"version of {name}", version)

    def pinned(self, name: str, digest: str) -> InstalledPipeline:
        """The bundle of that digest, if it still lies there. Raises NotFound."""
        found = self._find(name, digest)
        if found is None:
            for problem in self._read():
                log.warning("pipeline.not_read", problem=problem)
            found = self._find(name, digest)
        if found is None:
            raise NotFound("pipeline", f"{name} of the digest {digest[:12]}")
        return found

    def verify(self) -> list[str]:
        """What is wrong with the installed pipelines as they lie on the disk now; empty where nothing is."""
        return [
            f"{each.manifest.pipeline.name}: {problem}"
            for each in self.all()
            for problem in verify_pipeline(each)
        ]

    def _find(self, name: str, digest: str) -> InstalledPipeline | None:
        for each in self.all():
            if (each.manifest.pipeline.name, each.digest) == (name, digest):
                return each if (each.folder / MANIFEST).is_file() else None
        return None

    def _read(self) -> list[str]:
        """Look at each folder anew, but for those whose files are as they were; returns the problems."""
        found, problems = dict[Path, _Seen](), list[str]()
        for manifest in sorted(self._folder.glob(f"*/{MANIFEST}")):
            folder = manifest.parent
            try:
                found[folder] = self._look_at(folder)
            except ConfigError as error:
                problems += [
                    f"{Path(error.file).relative_to(self._folder)}: {text}" for text in error.problems
                ]
            except OSError as error:
                problems.append(f"{folder.name}: cannot be read: {error.strerror}")
        for folder in _again(found):
            section = found.pop(folder).pipeline.manifest.pipeline
            problems.append(f"{folder.name}: {section.name!r} {section.version} is installed twice")
        self._seen = found
        return problems

    def _look_at(self, folder: Path) -> _Seen:
        traces = _traces(folder)
        known = self._seen.get(folder)
        if known is not None and known.traces == traces:
            return known
        return _Seen(traces, open_pipeline(folder, self._check_rule))


@dataclass(frozen=True, slots=True)
class _Seen:
    """A folder as it was read, and what shows that it has not changed since."""

    traces: tuple[tuple[str, int, int], ...]
    pipeline: InstalledPipeline


def _traces(folder: Path) -> tuple[tuple[str, int, int], ...]:
    return tuple(
        (path.relative_to(folder).as_posix(), path.stat().st_mtime_ns, path.stat().st_size)
        for path in _files(folder)
    )


def _again(found: Mapping[Path, _Seen]) -> list[Path]:
    """The folders that hold a version that another one before them holds."""
    first: dict[tuple[str, str], Path] = {}
    sections = {folder: each.pipeline.manifest.pipeline for folder, each in found.items()}
    return [
        folder
        for folder, section in sections.items()
        if first.setdefault((section.name, section.version), folder) != folder
    ]


def _place(pipeline: InstalledPipeline) -> tuple[str, list[tuple[int, str]]]:
    """By name, then by version as people count: 1.10 comes after 1.9."""
    section = pipeline.manifest.pipeline
    parts = re.findall(r"\d+|\D+", section.version)
    return section.name, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


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
