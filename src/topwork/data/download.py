"""`download`: a file of known size and checksum, from the first server that gives it. Knows nothing of what is inside.

What arrives is kept in a `.part` file, also after Ctrl-C; the next call goes on from there. Nothing is trusted before
its checksum is right, so a server may cut, lie, ignore ranges or send other bytes: it costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from topwork.atomic import write_json
from topwork.data.known import KnownFile
from topwork.digest import file_sha256
from topwork.errors import DataError
from topwork.progress import Progress, silent

__all__ = ["Unavailable", "download"]

_TIMEOUT = 30.0  # seconds of silence
_PAUSES = (0.5, 2.0, 5.0)  # seconds before another try that did not get further
_BLOCK = 1 << 18
_GONE = {400, 401, 403, 404, 405, 410, 451}


class Unavailable(DataError):
    """No server gave the file.

    Args:
        what: one sentence.
        fix: what to do.
        reasons: one a server.
    """

    def __init__(self, what: str, *, fix: str, reasons: Sequence[str]) -> None:
        super().__init__(what, fix=fix)
        self.reasons = tuple(reasons)


class _NotHere(Exception):
    """This server cannot give the file; another may."""


@dataclass(frozen=True)
class _Part:
    """What has arrived so far, and what the server called that version of the file."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def _notes(self) -> Path:
        return self.path.with_suffix(".json")

    def validator(self, url: str) -> str | None:
        """For `If-Range`: the strong ETag or the date that this address gave."""
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            return str(notes["validator"]) if notes["url"] == url and notes["validator"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, url: str, headers: Any) -> None:
        tag = headers.get("ETag") or ""
        validator = tag if tag.startswith('"') else headers.get("Last-Modified") or ""  # a weak tag fits no range
        write_json(self._notes, {"url": url, "validator": validator})

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)


def download(file: KnownFile, folder: Path, *, urls: Sequence[str], progress: Progress = silent) -> Path:
    """Get one file.

    Args:
        file: says what it must be.
        folder: gets the file, and keeps what arrived if the work is interrupted.
        urls: where to ask, in order; http, https, or the path of a local file.
        progress: told about megabytes.

    Returns:
        The file's path; its size and checksum are right.

    Raises:
        Unavailable: if no server gives it.
        DataError: if another process is getting it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{file.sha256[:12]}-{file.name}"
    with _alone(target):
        if target.exists() and target.stat().st_size == file.bytes and file_sha256(target) == file.sha256:
            return target
        part, reasons = _Part(target.with_name(f"{target.name}.part")), []
        for url in urls:
            try:
                if urllib.parse.urlsplit(url).scheme in ("http", "https"):
                    _from_server(url, file, part=part, progress=progress)
                else:
                    _from_disk(Path(url), file, part=part)
            except _NotHere as reason:
                reasons.append(str(reason))
                progress.say(f"{reason}.")
                continue
            part.path.replace(target)
            part.forget()
            return target
        raise _unavailable(file, part, reasons=reasons)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    lock = FileLock(f"{target}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        what = f"The file {target.name} must be fetched by one process at a time. Another one is at it."
        raise DataError(what, fix="wait for the other one.") from None
    try:
        yield
    finally:
        lock.release()


def _unavailable(file: KnownFile, part: _Part, *, reasons: Sequence[str]) -> Unavailable:
    what = f"The file {file.name} could not be downloaded: {'; '.join(reasons) or 'there is no address to ask'}."
    kept = f" {part.size:,} of {file.bytes:,} bytes are kept." if part.size else ""
    return Unavailable(what + kept, fix="run the same command again later.", reasons=reasons)


def _from_disk(path: Path, file: KnownFile, *, part: _Part) -> None:
    if not path.is_file():
        raise _NotHere(f"there is no {path}")
    if path.stat().st_size != file.bytes:
        raise _NotHere(f"{path} has {path.stat().st_size:,} bytes, not {file.bytes:,}")
    part.forget()
    shutil.copyfile(path, part.path)
    if file_sha256(part.path) != file.sha256:
        part.forget()
        raise _NotHere(f"{path} has another checksum than the published one")


def _from_server(url: str, file: KnownFile, *, part: _Part, progress: Progress) -> None:
    """Fill the part; ask again while that helps.

    Raises:
        _NotHere: if this server does not give the file.
    """
    host, tries, anew, resumed = urllib.parse.urlsplit(url).netloc, 0, False, False
    while True:
        before = part.size
        try:
            if before < file.bytes:
                _receive(url, file, part=part, progress=progress)
            if _is_right(file, part):
                return
            part.forget()
            if anew or not (resumed or before):
                raise _NotHere(f"{host} sent other bytes than the published ones")
            anew, resumed = True, False  # pieces of two versions may have met: once more from the start
            continue
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"{host} answered {error.code} {error.reason}"
            if error.code in _GONE:
                raise _NotHere(reason) from None
            if error.code == 416:  # nothing can follow what is here, so what is here is wrong
                part.forget()
        except (OSError, http.client.HTTPException) as error:
            reason = f"{host} {_why(error)}"
        resumed = resumed or part.size > 0
        tries = 0 if part.size > before else tries + 1
        if tries > len(_PAUSES):
            raise _NotHere(reason)
        _wait(_PAUSES[max(tries, 1) - 1])


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _why(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return "fell silent"
    if isinstance(inner, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(inner, ConnectionError | http.client.HTTPException):
        return "cut the connection"
    return f"cannot be reached ({getattr(inner, 'strerror', None) or inner})"


def _receive(url: str, file: KnownFile, *, part: _Part, progress: Progress) -> None:
    """One answer of the server, appended to the part or in its place.

    Raises:
        _NotHere: if it is another file.
        OSError, http.client.HTTPException: if it ends too early.
    """
    start = part.size
    request = urllib.request.Request(url, headers={"User-Agent": "topwork", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator := part.validator(url):
            request.add_header("If-Range", validator)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        partial = answer.status == 206
        first, total = _announced(answer.headers, partial=partial)
        if total is not None and total != file.bytes:
            raise _NotHere(f"{urllib.parse.urlsplit(url).netloc} offers {total:,} bytes, not {file.bytes:,}")
        if partial and first != start:
            part.forget()
            raise ConnectionError("another range than the one asked for")
        start = first
        part.note(url, answer.headers)
        with part.path.open("ab" if start else "wb") as stream:
            _copy(answer, stream, file=file, start=start, progress=progress)


def _announced(headers: Any, *, partial: bool) -> tuple[int, int | None]:
    """Number of the first byte, -1 if that cannot be told, and the size of the whole file if the server says it."""
    if not partial:
        length = headers.get("Content-Length") or ""
        return 0, int(length) if length.isdigit() else None
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range") or "")
    if span is None:
        return -1, None
    return int(span[1]), None if span[2] == "*" else int(span[2])


def _copy(answer: Any, stream: Any, *, file: KnownFile, start: int, progress: Progress) -> None:
    done, stage = start, f"download {file.name} (MB)"
    progress.step(stage, done // 10**6, -(-file.bytes // 10**6))
    while done < file.bytes:
        block = answer.read1(min(_BLOCK, file.bytes - done))
        if not block:
            raise ConnectionError("the answer ended too early")
        stream.write(block)
        done += len(block)
        progress.step(stage, -(-done // 10**6) if done == file.bytes else done // 10**6, -(-file.bytes // 10**6))


def _is_right(file: KnownFile, part: _Part) -> bool:
    if part.size != file.bytes:
        return False
    with part.path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
