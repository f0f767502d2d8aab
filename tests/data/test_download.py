"""Downloads from a server in this process that cuts connections and serves wrong bytes."""

import hashlib
import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent.parent.parent / "data_prep/download.py"
CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def download():
    spec = importlib.util.spec_from_file_location("download", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["download"] = module
    spec.loader.exec_module(module)
    return module


class Server(ThreadingHTTPServer):
    """Serves CONTENT under any name; `cut` bytes a connection, `ranges` or not, or an error code."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.ranges, self.code, self.requests = CONTENT, None, True, 0, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and server.ranges else 0
        if server.code or start >= len(server.content):
            self.send_error(server.code or 416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(body[: server.cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(download, server, target, md5=MD5, **options):
    download.fetch(server.url, target, md5, pause=0, **options)


def test_a_file_is_fetched_once(download, server, tmp_path):
    fetch(download, server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    fetch(download, server, tmp_path / "f")
    assert server.requests == [None]


def test_cut_connections_are_resumed(download, server, tmp_path):
    server.cut = 30_000
    fetch(download, server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_later_call_resumes(download, server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT[:70_000])
    fetch(download, server, tmp_path / "f")
    assert server.requests == ["bytes=70000-"]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_part_that_is_whole_or_too_long(download, server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT)
    fetch(download, server, tmp_path / "f")
    (tmp_path / "g.part").write_bytes(CONTENT + b"more")
    fetch(download, server, tmp_path / "g")
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes() == CONTENT


def test_a_part_of_another_file_is_fetched_again(download, server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"x" * 500)
    fetch(download, server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_server_without_ranges(download, server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT[:70_000])
    server.ranges = False
    fetch(download, server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_the_earlier_file_stays(download, server, tmp_path):
    (tmp_path / "f").write_bytes(b"earlier")
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(download.DownloadError, match=f"published is {MD5}: not the official file"):
        fetch(download, server, tmp_path / "f")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"f": b"earlier"}


def test_a_server_that_sends_nothing(download, server, tmp_path):
    server.cut = 0
    with pytest.raises(download.DownloadError, match="2 times without a new byte"):
        fetch(download, server, tmp_path / "f", attempts=2)
    server.code = 404
    with pytest.raises(download.DownloadError, match=r"404 .*--url"):
        fetch(download, server, tmp_path / "f")
    server.code = 503
    with pytest.raises(download.DownloadError, match=r"503 .*2 times"):
        fetch(download, server, tmp_path / "f", attempts=2)


def test_the_command(download, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(download.SETS, "mnist", download.DataSet("http://nowhere/", {"a.gz": MD5, "b.gz": MD5}))
    assert download.main(["mnist", "--to", str(tmp_path / "new"), "--url", server.url]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.gz", "b.gz"]
    server.content = b"wrong"
    assert download.main(["mnist", "--to", str(tmp_path / "other"), "--url", server.url]) == 1
    assert "download: error: " in capsys.readouterr().err


def test_published_sets(download):
    assert set(download.SETS) == {"mnist", "fashion-mnist", "cifar10"}
    for chosen in download.SETS.values():
        assert all(len(md5) == 32 and int(md5, 16) for md5 in chosen.files.values())
