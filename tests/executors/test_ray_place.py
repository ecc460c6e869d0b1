"""What the machine of a cluster does with an order, and what goes over the network for it. Needs no Ray."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicomnode import errors
from dicomnode.config import FILE_VARIABLE, RaySection, load_config
from dicomnode.errors import ConfigError, DicomnodeError, InputChanged, PipelineChanged, RunCancelled
from dicomnode.executors.ray_machine import environment_of, require_usable, start_command
from dicomnode.executors.ray_place import Place
from dicomnode.installation import open_objects
from dicomnode.services.running import Made, RunOrder
from tests.harness.orders import toy_order
from tests.harness.toy_pipeline import write_toy_pipeline


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOrder:
    """An order for a series whose bytes are in the object store of this machine."""
    write_toy_pipeline(tmp_path / "pipelines")
    config_file = tmp_path / "config.toml"
    config_file.write_text('[node]\nminimum_free_mb = 1\n[workers]\ndevice = "cpu"\n')
    monkeypatch.setenv(FILE_VARIABLE, str(config_file))
    return toy_order(config_file)


def sent(value: Any) -> Any:
    """What the other machine gets."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301


async def _at(place: Place, order: RunOrder, cut: str = "") -> Made | DicomnodeError:
    await place.cut(cut)
    try:
        return await place.run("key", order)
    finally:
        await place.close()


def test_names_go_over_the_network_and_no_pixels(order: RunOrder, tmp_path: Path) -> None:
    made = asyncio.run(_at(Place(), order))
    assert isinstance(made, Made)
    objects = open_objects(load_config(tmp_path / "config.toml", {}))
    assert all(objects.intact(each.stored[1].sha256) for each in made.kept)
    assert {each.stored[0].role for each in made.kept} == {"SEG", "SR"}
    assert len(pickle.dumps(order)) < 10_000
    assert len(pickle.dumps(made)) < 10_000
    assert sent(made) == made
    assert not list(tmp_path.glob("var/scratch/*")), "nothing is left of the run"


def test_a_machine_runs_only_the_bundle_and_the_bytes_that_were_ordered(order: RunOrder) -> None:
    other = replace(order, pipeline_digest="0" * 64)
    assert isinstance(asyncio.run(_at(Place(), other)), PipelineChanged)
    gone = replace(order, instances=("0" * 64, *order.instances))
    assert isinstance(asyncio.run(_at(Place(), gone)), InputChanged)


def test_a_run_is_cut_also_when_its_cancellation_comes_first(order: RunOrder) -> None:
    assert isinstance(asyncio.run(_at(Place(), order, cut="key")), RunCancelled)


@pytest.mark.parametrize(
    "error",
    [
        errors.Refused("NOT_MR", "The series is not MR."),
        errors.RunTimedOut(3.5),
        errors.RunCrashed(None),
        errors.RunFailed("ValueError", "infer", "pred is too small"),
        errors.StorageFull(1, 2),
        errors.PipelineChanged("toy"),
        errors.GateFailed("volumes differ"),
        errors.ConfigError("config.toml", ["a", "b"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_on_the_other_machine(error: DicomnodeError) -> None:
    there = sent(error)
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))


def test_a_token_that_others_can_read_or_guess_stops_the_start(tmp_path: Path) -> None:
    token = tmp_path / "token"
    settings = RaySection(address="10.1.0.5:6379", own_address="10.1.0.5", token_file=str(token))
    with pytest.raises(ConfigError, match="cannot be read"):
        require_usable(settings)
    token.write_text("t" * 64)
    token.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        require_usable(settings)
    token.chmod(0o600)
    require_usable(settings)
    assert "RAY_AUTH_TOKEN" not in environment_of(settings, {"RAY_AUTH_TOKEN": "of another cluster"})
    token.write_text("short")
    with pytest.raises(ConfigError, match="32 characters"):
        require_usable(settings)


def test_the_machine_that_the_others_join_is_the_one_whose_address_it_is() -> None:
    first = RaySection(address="10.1.0.5:6379", own_address="10.1.0.5", token_file="t", gpus=0)  # noqa: S106
    assert {"--head", "--port=6379", "--include-dashboard=false", "--num-gpus=0"} <= set(start_command(first))
    other = first.model_copy(update={"own_address": "10.1.0.7", "gpus": "auto"})
    command = start_command(other)
    assert {"--address=10.1.0.5:6379", "--node-ip-address=10.1.0.7"} <= set(command)
    assert not {"--head", "--num-gpus=auto"} & set(command)
