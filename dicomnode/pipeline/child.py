"""The child process: enters the sandbox, loads one bundle, serves requests until its input ends."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from dicomnode import importing
from dicomnode.errors import Refused
from dicomnode.model.manifest import Manifest
from dicomnode.pipeline.contract import (
    LABELS,
    PREVIEW,
    AnswerError,
    Decoded,
    Done,
    Failed,
    Mark,
    Order,
    PriorPaths,
    Proceed,
    Progress,
    ProtocolError,
    Ready,
    RefusedReply,
    Reply,
    Request,
    Statistics,
    Take,
    VolumeFacts,
    decode_order,
    encode,
    map_file,
)
from dicomnode.pipeline.manifest import load_manifest
from dicomnode.pipeline.sandbox import claim_pipes, enter

if TYPE_CHECKING:
    from dicomnode.imaging.stacks import Choose, StackFacts
    from dicomnode.imaging.volume import Volume
    from dicomnode.pipeline.bundle import Answer, Bundle


_NO_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""As CUDA and its libraries say it, where torch has no exception for it."""


class _Pipes:
    def __init__(self, orders: BinaryIO, replies: BinaryIO) -> None:
        self._orders, self._replies = orders, replies

    def order(self) -> Order | None:
        """The next order; None when the parent closed its end."""
        line = self._orders.readline()
        return decode_order(line) if line else None

    def say(self, reply: Reply) -> None:
        """Send a reply."""
        self._replies.write(encode(reply))
        self._replies.flush()


class _Terms:
    """What the parent makes of the headers, waited for where it is asked: the child reads them meanwhile."""

    def __init__(self, pipes: _Pipes) -> None:
        self._pipes = pipes

    @cached_property
    def take(self) -> Take | None:
        """None where nothing comes of the request."""
        order = _next(self._pipes)
        if isinstance(order, Proceed) and not order.go:
            return None
        if not isinstance(order, Take):
            raise ProtocolError("an order out of turn")
        return order

    def is_meant(self, facts: StackFacts) -> bool:
        """True of the only stack, and of the one that the parent chose."""
        return facts["count"] == 1 or (self.take is not None and self.take.stack == facts["index"])


class _Place:
    """Where the child is, for the words about a failure."""

    stage = "start"


def main(folder: Path, scratch: Path, inputs: Path, device: str, parent: int) -> None:
    """Serve until the parent closes its end."""
    orders, replies = claim_pipes()
    isolation = enter(parent, scratch, (folder, inputs), (orders, replies))
    pipes = _Pipes(os.fdopen(orders, "rb"), os.fdopen(replies, "wb"))
    place = _Place()
    try:
        manifest = load_manifest(folder, lambda _: None)
        bundle = _load(folder, manifest, device, scratch)
    except Exception as error:  # noqa: BLE001 - the edge: whatever a bundle raises becomes a message
        _fail(pipes, place, error)
    pipes.say(Ready(device=str(bundle.device), isolated=isolation.isolated, why=isolation.why))
    while isinstance(order := pipes.order(), Request):
        try:
            _serve(order, bundle, manifest, scratch, pipes, place)
        except Refused as refused:
            pipes.say(RefusedReply(code=refused.code, reason=refused.reason[:300]))
        except Exception as error:  # noqa: BLE001 - the edge of a run
            _fail(pipes, place, error)


def _load(folder: Path, manifest: Manifest, device: str, scratch: Path) -> Bundle:
    # Not at the top: torch starts threads, and namespaces must be entered before any.
    with importing.much():
        from dicomnode.pipeline.bundle import Bundle

    return Bundle(folder, manifest, device, scratch)


def _serve(
    request: Request, bundle: Bundle, manifest: Manifest, scratch: Path, pipes: _Pipes, place: _Place
) -> None:
    def on_stage(stage: str) -> None:
        place.stage = stage
        pipes.say(Progress.model_validate({"stage": stage}))

    started, terms = time.monotonic(), _Terms(pipes)
    try:
        volume = _decode(request.paths, manifest, on_stage, terms.is_meant)
    except Exception:
        # It is told when the parent listens, and only where it still wants to know.
        if terms.take is None:
            return
        raise
    decoded = time.monotonic()
    if (take := terms.take) is None:
        return
    pipes.say(Decoded(volume=_facts(volume)))
    if not _may_proceed(pipes):
        return
    proceeded = time.monotonic()
    priors = {prior.key: _decode_prior(prior, manifest, on_stage) for prior in take.priors}
    decoding = decoded - started + time.monotonic() - proceeded
    bundle.spare_memory(frugal=request.frugal)
    answer = _run_upright(bundle, volume, priors, on_stage)
    measured = time.monotonic()
    done = _done(volume, answer, manifest, scratch, on_stage)
    timings = {"decode": decoding, **answer.timings, "measure": time.monotonic() - measured}
    pipes.say(done.model_copy(update={"timings": timings, "gpu_memory_mb": bundle.gpu_memory_mb}))


def _decode(
    paths: Sequence[str], manifest: Manifest, on_stage: Callable[[str], None], choose: Choose | None
) -> Volume:
    from dicomnode.imaging.inputs import read_input

    on_stage("decode")
    return read_input([Path(path) for path in paths], manifest.pipeline.input, choose)


def _decode_prior(prior: PriorPaths, manifest: Manifest, on_stage: Callable[[str], None]) -> Volume:
    stack = prior.stack
    return _decode(
        prior.paths, manifest, on_stage, (lambda facts: facts["index"] == stack) if stack else None
    )


def _facts(volume: Volume) -> VolumeFacts:
    from dicomnode.imaging.facts import volume_facts

    return VolumeFacts.model_validate(volume_facts(volume))


def _run_upright(
    bundle: Bundle, volume: Volume, priors: Mapping[str, Volume], on_stage: Callable[[str], None]
) -> Answer:
    """What the bundle finds in an upright stack, on the grid of `volume`, whose stack may be slanted."""
    from dicomnode.imaging.shear import deskew, reskew, reskew_points

    upright = {key: deskew(prior) for key, prior in priors.items()}
    answer, geometry = bundle.run(deskew(volume), upright, on_stage), volume.geometry
    return replace(
        answer,
        labels=reskew(answer.labels, geometry),
        maps={name: reskew(values, geometry) for name, values in answer.maps.items()},
        marks=tuple(replace(mark, points=reskew_points(mark.points, geometry)) for mark in answer.marks),
    )


def _next(pipes: _Pipes) -> Order:
    """The next order of a run; where the parent closed its end, this is the child's."""
    order = pipes.order()
    if order is None:
        os._exit(0)
    return order


def _may_proceed(pipes: _Pipes) -> bool:
    order = _next(pipes)
    if not isinstance(order, Proceed):
        raise ProtocolError("an order out of turn")
    return order.go


def _done(
    volume: Volume, answer: Answer, manifest: Manifest, scratch: Path, on_stage: Callable[[str], None]
) -> Done:
    import numpy as np

    from dicomnode.imaging.preview import preview_of
    from dicomnode.imaging.statistics import segment_statistics

    on_stage("measure")
    segments = {segment.name: segment.label for segment in manifest.segment}
    statistics = segment_statistics(volume.array, answer.labels, volume.geometry, segments)
    np.save(scratch / LABELS, answer.labels, allow_pickle=False)
    planes = preview_of(volume.array, answer.labels, [mark.points for mark in answer.marks]).planes
    for name, plane in zip(PREVIEW, planes, strict=True):
        np.save(scratch / name, plane, allow_pickle=False)
    for name, values in answer.maps.items():
        np.save(scratch / map_file(name), values, allow_pickle=False)
    return Done(
        statistics={name: Statistics(**asdict(of)) for name, of in statistics.items()},
        values=dict(answer.values),
        marks=tuple(
            Mark(name=mark.name, points=tuple(map(tuple, mark.points.tolist())), probability=mark.probability)
            for mark in answer.marks
        ),
        answers=dict(answer.answers),
        timings={},
    )


def _fail(pipes: _Pipes, place: _Place, error: Exception) -> NoReturn:
    traceback.print_exc()
    frames = traceback.extract_tb(error.__traceback__)
    last = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    name, problem = (error.name, error.problem) if isinstance(error, AnswerError) else ("", None)
    where = f"{place.stage} ({last})"[:300]
    kind = "MemoryError" if _ran_out_of_memory(error) else type(error).__name__[:300]
    pipes.say(Failed(error=kind, where=where, name=name, problem=problem))
    # Not sys.exit: a thread that the bundle left behind would keep the process.
    os._exit(1)


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """True where that is why: MONAI raises errors of its own from those of its transforms."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
