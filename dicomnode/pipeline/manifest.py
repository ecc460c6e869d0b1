"""Reading `pipeline.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from dicomnode.config import describe_problems
from dicomnode.errors import ConfigError
from dicomnode.model.manifest import Manifest

MANIFEST = "pipeline.toml"


def load_manifest(folder: Path, check_rule: Callable[[str], None]) -> Manifest:
    """The manifest of the pipeline in `folder`; `check_rule` raises ConfigError for a rule it does not take.

    Raises ConfigError with every problem, each with its key.
    """
    file = folder / MANIFEST
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(file, [f"cannot be read: {type(error).__name__}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, [f"is not TOML: {error}"]) from None
    try:
        manifest = Manifest.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(file, describe_problems(error, Manifest)) from None
    if problems := _rule_problems(manifest, check_rule):
        raise ConfigError(file, problems)
    return manifest


def _rule_problems(manifest: Manifest, check_rule: Callable[[str], None]) -> list[str]:
    problems = []
    if manifest.select is not None:
        try:
            check_rule(manifest.select.when)
        except ConfigError as error:
            problems += [f"select.when: {problem}" for problem in error.problems]
    rules = {
        "prior": [prior.when for prior in manifest.prior],
        "require": [condition.when for condition in manifest.require],
        "plausible": [condition.when for condition in manifest.plausible],
    }
    for section, conditions in rules.items():
        for number, when in enumerate(conditions, start=1):
            try:
                check_rule(when)
            except ConfigError as error:
                problems += [f"{section}[{number}].when: {problem}" for problem in error.problems]
    return problems
