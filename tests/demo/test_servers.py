"""The demo's servers get configurations that dicomnode takes, and ports of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dicomnode.config import load_config
from dicomnode.demo import servers
from dicomnode.demo.errors import DemoError
from dicomnode.demo.servers import Site, free_ports, wait_until_ready, write_archive_config, write_node_config
from dicomnode.model.peer import Peer


def test_the_node_sends_to_the_archive_and_asks_it(tmp_path):
    site = Site(tmp_path / 'a "quoted" folder', "DICOMNODE", "SCANNER", 11112)
    archive = Peer("ARCHIVE", "127.0.0.1", 10400)
    write_node_config(site, archive, tmp_path / "pipelines", "brain_tissue")
    config = load_config(site.config, {})
    assert config.destination[0].dimse.peer == archive
    assert config.destination[0].confirm == "find"
    assert config.route[0].pipeline == "brain_tissue"
    assert config.pipelines.folder == tmp_path / "pipelines"
    assert config.node.data == site.data
    assert [entry.ae_title for entry in config.dimse.accept] == ["SCANNER"]


def test_the_archive_has_no_route(tmp_path):
    site = Site(tmp_path / "archive", "ARCHIVE", "DICOMNODE", 10400)
    write_archive_config(site)
    config = load_config(site.config, {})
    assert (config.route, config.destination) == ((), ())
    assert [entry.ae_title for entry in config.dimse.accept] == ["DICOMNODE"]


def test_ports_are_different():
    assert len(set(free_ports(8))) == 8


def test_a_server_that_cannot_start_is_an_error_and_its_last_words_are_kept(tmp_path: Path):
    site = Site(tmp_path / "site", "BROKEN", "ANY", free_ports(1)[0])
    site.folder.mkdir()
    site.config.write_text("[nonsense]\n")
    with servers.serving(site) as process, pytest.raises(DemoError, match="BROKEN ended with status"):
        wait_until_ready(site, process)
    assert "nonsense" in site.last_words()


def test_a_server_is_gone_after_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\ntrap "" TERM\nwhile true; do read x; done\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(servers, "STOP_LIMIT_S", 0.5)
    site = Site(tmp_path / "site", "STUBBORN", "ANY", 1)
    site.folder.mkdir()
    with servers.serving(site) as process:
        assert process.poll() is None
    assert process.returncode is not None
