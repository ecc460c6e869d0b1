"""`make viewer` without a browser: what it shows, how it serves it, and what it says where that fails."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dicomnode.demo.errors import DemoError
from dicomnode.demo.viewer import archive, ohif
from dicomnode.demo.viewer.kept import find_kept, last_demo
from dicomnode.demo.viewer.server import serving_viewer
from tests.harness.heads import small_series, write_series

FOUND = gzip.compress(b'[{"study": 1}]')


class DicomWeb(BaseHTTPRequestHandler):
    """Answers as Orthanc does: compressed, and 404 for what it does not have."""

    def do_GET(self):
        known = self.path == "/dicom-web/studies?limit=1"
        body = FOUND if known else b"no such study"
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/dicom+json")
        if known:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def origin(tmp_path) -> Iterator[str]:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.html").write_text("the viewer")
    (pages / "app.js").write_text("its code")
    (tmp_path / "secret").write_text("beside the pages")
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), DicomWeb)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with serving_viewer(pages, "window.config = {};", upstream.server_port) as url:
        yield url
    upstream.shutdown()
    upstream.server_close()


def get(url: str):
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  our own server's
        return answer.read(), answer.headers


@pytest.mark.parametrize(
    "path", ["/", "/viewer?StudyInstanceUIDs=1.2", "/app.js", "/app-config.js", "/dicom-web/studies?limit=1"]
)
def test_every_answer_lets_the_browser_share_memory(path, origin):
    headers = get(origin + path)[1]
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_the_viewers_own_routes_lead_to_its_first_page(origin):
    assert get(f"{origin}/viewer?StudyInstanceUIDs=1.2")[0] == b"the viewer"
    assert get(f"{origin}/app.js")[0] == b"its code"
    assert get(f"{origin}/app-config.js")[0] == b"window.config = {};"


def test_nothing_beside_the_pages_is_served(origin):
    assert get(f"{origin}/../secret")[0] == b"the viewer"


def test_what_dicomweb_answers_is_passed_on_as_it_stands(origin):
    body, headers = get(f"{origin}/dicom-web/studies?limit=1")
    assert (body, headers["Content-Encoding"]) == (FOUND, "gzip")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{origin}/dicom-web/studies/1.2")


def test_the_last_demo_that_came_to_its_end_is_shown(tmp_path):
    for name in ("20260101-120000", "20260102-120000", "20260103-120000"):
        (tmp_path / name).mkdir()
    for name in ("20260101-120000", "20260102-120000"):
        (tmp_path / name / "picture.png").touch()
    assert last_demo(tmp_path).name == "20260102-120000"


def test_an_instance_that_both_servers_keep_is_shown_once(tmp_path):
    series = small_series(3)
    write_series(tmp_path / "node/var/objects/ab", series)
    write_series(tmp_path / "archive/var/objects/cd", series[:1])
    kept = find_kept(tmp_path)
    assert sorted(each.SOPInstanceUID for each in kept.instances) == sorted(
        ds.SOPInstanceUID for ds in series
    )
    assert kept.StudyInstanceUIDs == (series[0].StudyInstanceUID,)


def test_without_a_demo_it_says_so_in_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dicomnode.demo.viewer", "--demos", str(tmp_path), "--no-browser"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 1
    assert "no demo has come to its end" in done.stdout
    assert "Traceback" not in done.stderr


def test_without_npm_orthanc_or_its_plug_in_the_package_to_install_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_PLUGIN_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(archive.shutil, "which", lambda *_, **__: "/usr/sbin/Orthanc")
    with pytest.raises(DemoError, match="orthanc-dicomweb"):
        archive.find_orthanc()
    monkeypatch.setattr(archive.shutil, "which", lambda *_, **__: None)
    with pytest.raises(DemoError, match="Orthanc is missing"):
        archive.find_orthanc()
    with pytest.raises(DemoError, match="npm is missing"):
        ohif.find_ohif(tmp_path)
