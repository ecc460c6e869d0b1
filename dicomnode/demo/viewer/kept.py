"""What the last demo left on disk: its series and the results, as the servers received them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicomnode.demo.errors import DemoError
from dicomnode.demo.series import read_instances
from dicomnode.model.result import OutgoingInstance

_WHERE = ("archive/var/objects", "node/var/objects")


@dataclass(frozen=True, slots=True)
class Kept:
    """The instances of one demo, each once, and the studies that they belong to."""

    instances: tuple[OutgoingInstance, ...]
    StudyInstanceUIDs: tuple[str, ...]


def last_demo(demos: Path) -> Path:
    """The folder of the demo that was played last; raises DemoError where none was."""
    folders = sorted(each for each in demos.glob("*") if (each / "picture.png").is_file())
    if not folders:
        raise DemoError(f"no demo has come to its end in {demos}: make demo")
    return folders[-1]


def find_kept(demo: Path) -> Kept:
    """What the servers of that demo keep. Raises DemoError where that is nothing."""
    found = {
        instance.SOPInstanceUID: (study, instance)
        for where in _WHERE
        for study, instance in read_instances(demo / where)
    }
    if not found:
        raise DemoError(f"the servers of {demo} keep nothing: make demo")
    studies = {study for study, _ in found.values()}
    return Kept(tuple(instance for _, instance in found.values()), tuple(sorted(studies)))
