"""A server may cut, lie, ignore ranges or send other bytes: the file is right in the end, or it is not there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from topwork.data import download as downloading
from topwork.data.download import Unavailable, download
from topwork.data.known import KnownFile
from topwork.errors import DataError

BODY = hashlib.shake_256(b"photos").digest(600_000)
FILE = KnownFile(urls=("http://nowhere/set.tgz",), bytes=len(BODY), sha256=hashlib.sha256(BODY).hexdigest())

Behaviour = Callable[[Any, "Server"], None]


@dataclass
class Server:
    """A real HTTP server whose every answer is a function of the test's choosing; the last one repeats."""

    behaviours: list[Behaviour]
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, handler: Any) -> None:
        self.asked.append(dict(handler.headers))
        number = min(len(self.asked), len(self.behaviours)) - 1
        self.behaviours[number](handler, self)

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.asked]


Start = Callable[..., Server]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloading, "_wait", lambda _seconds: None)
    running: list[ThreadingHTTPServer] = []

    def start(*behaviours: Behaviour) -> Server:
        server = Server(list(behaviours))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        running.append(http)
        server.url = f"http://127.0.0.1:{http.server_port}/set.tgz"
        return server

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


def sends(
    *,
    body: bytes = BODY,
    most: int | None = None,
    length: int | None = None,
    ranges: bool = True,
    tag: str = '"one"',
) -> Behaviour:
    """A well-behaved server, apart from what is asked of it: `most` bytes an answer, another `length`, no ranges."""

    def behave(handler: Any, _server: Server) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
        if handler.headers.get("If-Range") not in (None, tag):
            start = 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start if length is None else length))
        handler.send_header("ETag", tag)
        handler.end_headers()
        handler.wfile.write(body[start : None if most is None else start + most])

    return behave


def says(code: int, body: bytes = b"sorry") -> Behaviour:
    def behave(handler: Any, _server: Server) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def hangs_up(handler: Any, _server: Server) -> None:
    handler.connection.close()


def left(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_plain_download(serve: Start, tmp_path: Path) -> None:
    server = serve(sends())
    path = download(FILE, tmp_path, urls=[server.url])
    assert path.read_bytes() == BODY
    assert server.ranges == [None]
    assert left(tmp_path) == {".tgz"}
    assert download(FILE, tmp_path, urls=[]) == path  # there: nobody is asked


def test_cut_connections_are_taken_up_where_they_broke(serve: Start, tmp_path: Path) -> None:
    server = serve(sends(most=250_000))
    assert download(FILE, tmp_path, urls=[server.url]).read_bytes() == BODY
    assert server.ranges == [None, "bytes=250000-", "bytes=500000-"]
    assert [headers.get("If-Range") for headers in server.asked] == [None, '"one"', '"one"']


def test_a_server_that_ignores_ranges_starts_again(serve: Start, tmp_path: Path) -> None:
    server = serve(sends(most=400_000), sends(ranges=False))
    assert download(FILE, tmp_path, urls=[server.url]).read_bytes() == BODY
    assert server.ranges == [None, "bytes=400000-"]


def test_a_file_that_changed_on_the_server_is_not_mixed(serve: Start, tmp_path: Path) -> None:
    """The first piece is of another version; the server, asked by If-Range, sends the new one whole."""
    server = serve(sends(body=BODY[::-1], most=300_000, tag='"old"'), sends(tag='"new"'))
    assert download(FILE, tmp_path, urls=[server.url]).read_bytes() == BODY
    assert server.asked[1]["If-Range"] == '"old"'


def test_pieces_of_two_versions_are_thrown_away_once(serve: Start, tmp_path: Path) -> None:
    blind = sends(body=BODY[::-1], most=300_000, tag="")
    server = serve(blind, sends(tag=""))
    assert download(FILE, tmp_path, urls=[server.url]).read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-", None]


def test_another_range_than_asked_for_is_not_appended(serve: Start, tmp_path: Path) -> None:
    def shifted(handler: Any, _server: Server) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 7-{len(BODY) - 1}/{len(BODY)}")
        handler.end_headers()
        handler.wfile.write(BODY[7:])

    server = serve(sends(most=300_000), shifted, sends())
    assert download(FILE, tmp_path, urls=[server.url]).read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-", None]


def test_a_length_that_is_a_lie_costs_a_retry(serve: Start, tmp_path: Path) -> None:
    server = serve(sends(body=BODY[:100_000], length=len(BODY)), sends())
    assert download(FILE, tmp_path, urls=[server.url]).read_bytes() == BODY


@pytest.mark.parametrize(
    ("behaviour", "reason", "asked"),
    [
        (says(404), "answered 404", 1),
        (says(403), "answered 403", 1),
        (says(500), "answered 500", 4),
        (says(503), "answered 503", 4),
        (says(200, b"<html>log in</html>"), "offers 19 bytes, not 600,000", 1),
        (sends(body=BODY[::-1]), "other bytes", 1),
        (sends(body=BODY + b"!"), "offers 600,001 bytes", 1),
        (hangs_up, "cut the connection", 4),
    ],
)
def test_what_no_retry_mends_is_one_sentence(
    behaviour: Behaviour, reason: str, asked: int, serve: Start, tmp_path: Path
) -> None:
    server = serve(behaviour)
    with pytest.raises(Unavailable) as caught:
        download(FILE, tmp_path, urls=[server.url])
    assert reason in caught.value.what
    assert "\n" not in caught.value.what
    assert len(server.asked) == asked
    assert left(tmp_path) <= {".json"}


def test_the_next_address_is_asked_and_a_wrong_one_does_no_harm(serve: Start, tmp_path: Path) -> None:
    wrong, right = serve(sends(body=BODY[::-1])), serve(sends())
    (tmp_path / "short").write_bytes(b"short")
    (tmp_path / "other").write_bytes(BODY[::-1])
    urls = [str(tmp_path / name) for name in ("absent", "short", "other")]
    assert download(FILE, tmp_path / "d", urls=[*urls, wrong.url, right.url]).read_bytes() == BODY
    assert left(tmp_path / "d") == {".tgz"}


def test_a_server_that_sends_too_much_without_saying_so(serve: Start, tmp_path: Path) -> None:
    def endless(handler: Any, _server: Server) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(b"x" * 100_000)
        except OSError:
            pass

    server = serve(endless)
    with pytest.raises(Unavailable, match="other bytes"):
        download(FILE, tmp_path, urls=[server.url])
    assert left(tmp_path) <= {".json"}


def test_an_interrupt_keeps_what_arrived(serve: Start, tmp_path: Path) -> None:
    class Stops:
        def step(self, stage: str, done: int, total: int) -> None:
            if any(path.suffix == ".part" and path.stat().st_size > 100_000 for path in tmp_path.iterdir()):
                raise KeyboardInterrupt

        def say(self, line: str) -> None:
            pass

    server = serve(sends())
    with pytest.raises(KeyboardInterrupt):
        download(FILE, tmp_path, urls=[server.url], progress=Stops())
    kept = next(path for path in tmp_path.iterdir() if path.suffix == ".part").stat().st_size
    assert 0 < kept < len(BODY)
    assert download(FILE, tmp_path, urls=[server.url]).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={kept}-"]


def test_without_a_network_what_arrived_is_kept_and_counted(serve: Start, tmp_path: Path) -> None:
    server = serve(sends(most=250_000), hangs_up)
    with pytest.raises(Unavailable, match="250,000 of 600,000 bytes are kept"):
        download(FILE, tmp_path, urls=[server.url])
    closed = "http://127.0.0.1:9/set.tgz"
    with pytest.raises(Unavailable, match="refused the connection"):
        download(FILE, tmp_path, urls=[closed])
    with pytest.raises(Unavailable, match="cannot be reached"):
        download(FILE, tmp_path, urls=["http://no-such-host.invalid/set.tgz"])


def test_one_process_at_a_time(serve: Start, tmp_path: Path) -> None:
    def meanwhile(handler: Any, server: Server) -> None:
        with pytest.raises(DataError, match="one process at a time"):
            download(FILE, tmp_path, urls=[server.url])
        sends()(handler, server)

    assert download(FILE, tmp_path, urls=[serve(meanwhile).url]).read_bytes() == BODY
