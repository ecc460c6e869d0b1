"""`dicomnode conformance` says the same in HTML, in Markdown and in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from dicomnode.cli import app
from tests.harness.toy_pipeline import write_toy_pipeline

NASTY = r"a|b *c* _d_ <b>e</b> `f` [g](h) \i &amp; ~j~ #k"
SETTINGS = f"""
[node]
ae_title = "N_O*D<E>|`1`"
[pipelines]
folder = "pipelines"
[dimse]
accept = [{{ ae_title = "*", address = "10.0.0.0/8" }}, {{ ae_title = "A_B_C", address = "::1/128" }}]
[[destination]]
name = '{NASTY}'
dimse = {{ ae_title = "<PACS>", host = "pacs.example", port = 104 }}
confirm = "commitment"
[[destination]]
name = "cloud"
web = {{ url = "https://cloud.example/dicom-web" }}
confirm = "qido"
"""


class Page(HTMLParser):
    """The headings, paragraphs and cells of a page, as a reader sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, _: Any) -> None:
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6", "p", "th", "td", "caption"):
            self._open = ""
        elif tag == "br":
            self._open += "\n"

    def handle_data(self, data: str) -> None:
        self._open += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6", "p", "th", "td", "caption"):
            self.texts.append(self._open)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conformance")
    write_toy_pipeline(folder / "pipelines")
    (folder / "config.toml").write_text(SETTINGS)
    return folder / "config.toml"


@cache
def printed(config: Path, form: str) -> str:
    done = CliRunner().invoke(app, ["conformance", "--format", form, "--config", str(config)])
    assert done.exit_code == 0, done.output
    return done.stdout


def facts(record: dict[str, Any]) -> list[str]:
    """Everything that the JSON says, in the order of reading."""
    found = [record["title"]]
    for section in record["sections"]:
        found += [f"{section['number']} {section['title']}", *section["text"]]
        for table in section["tables"]:
            found.append(table["title"])
            found += [*table["columns"], *(_text(cell) for row in table["rows"] for cell in row.values())]
    return found


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else "\n".join(cell)


def test_html_and_markdown_say_what_json_says_and_nothing_else(config):
    told = facts(json.loads(printed(config, "json")))
    assert NASTY in "\n".join(told)
    assert Page(printed(config, "html")).texts == told
    markdown = MarkdownIt("commonmark").enable("table").render(printed(config, "md"))
    assert Page(markdown).texts == told


def test_no_value_becomes_markup(config):
    html = printed(config, "html")
    assert "<b>" not in html
    assert "<script" not in html
    markdown = MarkdownIt("commonmark").enable("table").render(printed(config, "md"))
    assert "<b>" not in markdown
    assert "<em>" not in markdown


def test_the_page_needs_nothing_from_elsewhere(config):
    html = printed(config, "html")
    assert "http" not in html.replace("https://cloud.example", "").replace("http://127.0.0.1", "")


def test_the_same_settings_give_the_same_bytes(config):
    command = [sys.executable, "-m", "dicomnode", "conformance", "--format", "json", "--config", str(config)]
    first, second = (
        subprocess.run(
            command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    )
    assert first == second


def test_settings_with_a_mistake_are_told(tmp_path):
    (tmp_path / "config.toml").write_text("[node]\nae_titel = 1\n")
    done = CliRunner().invoke(app, ["conformance", "--config", str(tmp_path / "config.toml")])
    assert done.exit_code != 0
