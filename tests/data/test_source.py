"""Where datasets are looked for, how they are fetched, and what a sample may claim."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from perceiver.data import download
from perceiver.data.download import fetch, retrieve
from perceiver.data.limits import Limits
from perceiver.data.rows import BadSample
from perceiver.data.source import Source, find_folder, not_found, places

CONTENT = b"seventeen bytes.\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def official(tmp_path: Path) -> str:
    """The address of a file."""
    (tmp_path / "official.txt").write_bytes(CONTENT)
    return (tmp_path / "official.txt").as_uri()


def test_a_file_is_fetched_once_and_then_verified(tmp_path, official):
    file = tmp_path / "data" / "a.txt"
    fetch("a set", [official], file, SHA256)
    assert file.read_bytes() == CONTENT
    fetch("a set", [], file, SHA256)
    file.write_bytes(b"another")
    with pytest.raises(ValueError, match=f"a.txt is not the official file: SHA-256 .* expected {SHA256}. Delete it"):
        fetch("a set", [official], file, SHA256)


def test_the_next_address_is_tried_when_one_fails(tmp_path, official):
    fetch("a set", [(tmp_path / "nowhere").as_uri(), official], tmp_path / "a.txt", SHA256)
    assert (tmp_path / "a.txt").read_bytes() == CONTENT


def test_where_nothing_helps_it_is_said_what_was_tried_and_where_to_put_the_file(tmp_path, official):
    wrong = hashlib.sha256(b"").hexdigest()
    with pytest.raises(FileNotFoundError) as error:
        fetch("a set", [(tmp_path / "nowhere").as_uri(), official], tmp_path / "data" / "a.txt", wrong)
    told = str(error.value)
    assert f"a set: a.txt not found; looked in {tmp_path / 'data'}" in told and "nowhere" in told and f"expected {wrong}" in told
    assert not list((tmp_path / "data").iterdir())


class Broken(http.server.BaseHTTPRequestHandler):
    """Promises more than it sends; at /silent, sends nothing for long."""

    def do_GET(self):
        if self.path == "/silent":
            self.server.wait.wait(20)
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        server.wait = threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.wait.set()
        server.shutdown()
        thread.join()


def test_a_download_that_breaks_off_or_falls_silent_is_an_error_and_leaves_nothing(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    with pytest.raises(OSError, match="17 of 1000 bytes|IncompleteRead"):
        retrieve(f"{server}/short", tmp_path / "a.txt")
    with pytest.raises(OSError, match="timed out"):
        retrieve(f"{server}/silent", tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_found_where_all_of_its_files_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/set").mkdir(parents=True)
    (tmp_path / "data/set/a.txt").touch()
    assert find_folder("set", None, ["*.txt"]) == Path("data/set")
    assert find_folder("set", None, ["*.txt", "*.csv"]) is None
    assert find_folder("set", tmp_path, ["a.txt"]) is None and find_folder("set", tmp_path / "data/set", ["a.txt"])
    told = str(not_found("the set", places("set", None)))
    assert all(str((tmp_path / place / "set").resolve()) in told for place in ("data", "../shared/data")) and "give `root`" in told


@pytest.mark.parametrize("name", ["bytes", "pixels", "seconds", "sample_rate", "channels", "frames"])
def test_what_a_sample_claims_is_held_against_each_limit(name):
    seven, eight = (7.0, 8.0) if name == "seconds" else (7, 8)
    limits = Limits(**{name: seven})
    limits.check("a sample", **{name: seven})
    with pytest.raises(BadSample, match=f"a sample: 8 {name.replace('_', ' ')} are more than the limit of 7: raise Limits.{name}"):
        limits.check("a sample", **{name: eight})


def test_a_dataset_without_classes_has_nothing_to_learn():
    class Bare(Source):
        entries = ("image",)

        def rows(self, split):
            return []

    with pytest.raises(ValueError, match="Bare has no classes to learn"):
        _ = Bare().task
