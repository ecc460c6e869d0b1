"""The docs say what the code says."""

from __future__ import annotations

import ast
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from dicomnode.config import Config, _Section
from dicomnode.imaging.facts import SERIES_FACTS, STUDY_FACTS
from dicomnode.imaging.stacks import STACK_FACTS
from dicomnode.model import commitment, delivery, job
from dicomnode.model.prior import PRIOR_FACTS

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_config_toml_holds_every_setting_with_its_default():
    settings = tomllib.loads((ROOT / "config.toml").read_text())
    for section, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            assert settings[section] == field.annotation().model_dump(mode="json"), section
    assert set(settings) == set(Config.model_fields)


def test_config_toml_explains_every_setting():
    lines = (ROOT / "config.toml").read_text().splitlines()
    for before, line in pairwise(lines):
        if re.match(r"[a-z_]+ = ", line):
            assert re.match(r"#|[a-z_]+ = ", before), line


def test_the_architecture_names_each_module_with_its_line():
    listed = dict(re.findall(r"^- `([^`]+)`: (.+)$", _between(ARCHITECTURE, "modules"), re.MULTILINE))
    assert listed == {
        str(path.relative_to(ROOT / "dicomnode")): _first_line(path)
        for path in sorted((ROOT / "dicomnode").rglob("*.py"))
    }


@pytest.mark.parametrize(
    ("machine", "heading"), [(job, "a job"), (delivery, "a delivery"), (commitment, "a storage commitment")]
)
def test_the_architecture_draws_every_edge_of_a_state_machine(machine, heading):
    drawn = re.search(rf"## The states of {heading}\n\n```mermaid\n(.*?)```", ARCHITECTURE, re.DOTALL)[1]
    edges = set(re.findall(r"^ +(\w+) --> (\w+): (\w+)$", drawn, re.MULTILINE))
    assert edges == {
        (str(state), str(after), str(event)) for (state, event), after in machine.TRANSITIONS.items()
    }


def test_the_rules_page_names_every_fact():
    text = (ROOT / "docs" / "rules.md").read_text()
    named = set(re.findall(r"`(\w+)`", text))
    assert named >= {*SERIES_FACTS, *STUDY_FACTS, "calling_ae", "called_ae", "address"}


def test_the_priors_page_names_every_fact_of_a_prior():
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "priors.md").read_text()))
    assert named >= {*PRIOR_FACTS}


def test_the_pipelines_page_names_every_fact_of_a_stack_and_every_reason_to_refuse_an_input():
    text = (ROOT / "docs" / "pipelines.md").read_text()
    sources = [path.read_text() for path in (ROOT / "dicomnode" / "imaging").glob("*.py")]
    refusing = "".join(source for source in sources if "import Refused" in source)
    reasons = {"COLOUR", "LOCALIZER", *re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', refusing)}
    assert set(re.findall(r"`(\w+)`", text)) >= {*STACK_FACTS} | reasons


def test_every_link_of_the_docs_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def _between(text: str, name: str) -> str:
    return text.split(f"<!-- {name}:")[1].split(f"<!-- /{name} -->")[0]


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
