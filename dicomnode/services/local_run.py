"""A pipeline over a folder: the same way as a job's, without database and network."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from pydicom.misc import is_dicom

from dicomnode.config import Config
from dicomnode.errors import NotFound, Refused
from dicomnode.model.instance import InstanceRef
from dicomnode.model.profile import Profile
from dicomnode.model.result import ResultRole
from dicomnode.pipeline.registry import InstalledPipeline
from dicomnode.pipeline.runner import Runner
from dicomnode.services.inference import infer
from dicomnode.services.origin import provenance_of
from dicomnode.services.prior_inputs import GivenPriors
from dicomnode.services.routing import input_digest


@dataclass(frozen=True, slots=True)
class Written:
    """The files that were written, the volume of each segment (ml), and the seconds of each stage.

    `left_out` are the files of the folder that are no DICOM files.
    """

    files: tuple[Path, ...]
    left_out: tuple[Path, ...]
    volumes_ml: Mapping[str, float]
    timings: Mapping[str, float]


def run_folder(
    config: Config,
    pipeline: InstalledPipeline,
    folder: Path,
    out: Path,
    device: str | None,
    profile: Profile,
    priors: Sequence[tuple[str, Path]] = (),
) -> Written:
    """Run `pipeline` over the series in `folder` and write its results to `out`.

    `priors`: the name of each with the folder of its series, the latest of a name first.

    The UIDs are new with each run: no node stands behind it that would know them again.

    Raises Refused, RunError and GateFailed as a job would record them.
    """
    for name in {name for name, _ in priors} - {prior.name for prior in pipeline.manifest.prior}:
        raise NotFound("prior", name)
    paths, left_out = _instances_in(folder)
    refs = [InstanceRef(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
    provenance = provenance_of(config, uuid4().hex, input_digest(refs), pipeline.digest, datetime.now(UTC))
    with tempfile.TemporaryDirectory() as scratch:
        # The child can read one folder alone.
        inputs = _beside_each_other(folder, priors, Path(scratch) / "inputs") if priors else folder
        given = [(name, _instances_in(inputs / str(n))[0]) for n, (name, _) in enumerate(priors, 1)]
        paths = [inputs / "0" / path.name for path in paths] if priors else paths
        runner = Runner(
            pipeline,
            device or config.workers.device,
            Path(scratch),
            inputs,
            start_limit_s=config.workers.start_limit_s,
            recycle_after=1,
        )
        try:
            told = GivenPriors(given, {})
            inference = infer(paths, pipeline, runner, provenance, lambda: False, [profile], given=told)
        finally:
            runner.close()
    out.mkdir(parents=True, exist_ok=True)
    files = []
    seen = Counter[ResultRole]()
    for result in inference.forms[profile]:
        seen[result.role] += 1
        number = f"-{seen[result.role]}" if seen[result.role] > 1 else ""
        file = out / f"{pipeline.manifest.pipeline.name}-{result.role.lower()}{number}.dcm"
        file.write_bytes(result.data)
        files.append(file)
    statistics = inference.findings.statistics
    volumes = {segment.name: statistics[segment.name].volume_ml for segment in pipeline.manifest.segment}
    return Written(tuple(files), tuple(left_out), volumes, inference.timings)


def _instances_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM files of a folder, and its other files. Raises Refused where there is none of the former."""
    found = sorted(path for path in folder.iterdir() if path.is_file())
    paths = [path for path in found if is_dicom(path)]
    if not paths:
        raise Refused("NO_INSTANCES", f"there is no DICOM file in {folder}")
    return paths, [path for path in found if path not in paths]


def _beside_each_other(folder: Path, priors: Sequence[tuple[str, Path]], inputs: Path) -> Path:
    """Copies of the series ("0") and of each prior ("1", …) in one folder."""
    for number, each in enumerate([folder, *(prior for _, prior in priors)]):
        (inputs / str(number)).mkdir(parents=True)
        for path in _instances_in(each)[0]:
            shutil.copyfile(path, inputs / str(number) / path.name)
    return inputs
