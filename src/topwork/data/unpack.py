"""`unpack`: chosen files of a zip or tar archive, to places that the caller names. An archive decides nothing.

Member names are only ever read, never used as paths; links, devices and names that try to leave are a reason to refuse
the archive. Sizes are counted while writing, whatever the archive says they are.
"""

from __future__ import annotations

import errno
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from topwork.data.decode import printable
from topwork.errors import DataError
from topwork.progress import Progress, silent

__all__ = ["Caps", "unpack"]

_BLOCK = 1 << 18
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    ValueError,  # such as names that are not in their encoding
    RuntimeError,  # such as a compression that is not known
)
# Places in the file that are none, and names that are too long or stand for a file and a folder at once.
_ODD = {None, errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ}


@dataclass(frozen=True, kw_only=True)
class Caps:
    """What an archive may contain.

    Args:
        files: at most.
        bytes: unpacked, of all files.
        file_bytes: unpacked, of one file.
        ratio: unpacked bytes for one of the archive, above `slack` bytes. Photos hardly shrink.
        slack: unpacked bytes that no ratio is asked of.
    """

    files: int = 200_000
    bytes: int = 50 * 10**9
    file_bytes: int = 64 * 2**20
    ratio: float = 20.0
    slack: int = 10**8


_CAPS = Caps()


@dataclass(frozen=True)
class _Member:
    """One file of an archive: its name, its size as announced, and how to read it."""

    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


class _Refused(Exception):
    """Why the archive is not unpacked."""


def unpack(
    archive: Path,
    into: Path,
    *,
    place: Callable[[PurePosixPath], str | None],
    caps: Caps = _CAPS,
    progress: Progress = silent,
) -> int:
    """Write the files of an archive that `place` gives a place to.

    Args:
        archive: zip, or tar (plain, gzip, bzip2, xz).
        into: an existing folder.
        place: a member's name -> the POSIX path below `into` that it gets, or None to pass it over. Two members may get
            one place if they are the same file.
        caps: what is refused.
        progress: told about every file, as stage `unpack`.

    Returns:
        How many files were written.

    Raises:
        DataError: if the archive is damaged, or holds what no archive of photos does.
    """
    name, written, total = printable(archive.name), 0, 0
    most = min(caps.bytes, max(caps.slack, int(caps.ratio * archive.stat().st_size)))
    try:
        for number, member in enumerate(_members(archive), start=1):
            if number > caps.files:
                raise _Refused(f"more than {caps.files:,} files")
            total += member.size
            if member.size > caps.file_bytes or total > most:
                raise _Refused(f"{member.name[:80]!r}, which makes it too large: a bomb")
            target = place(_safe_name(member.name))
            if target is not None:
                written += _write(member, into / target)
                progress.step("unpack", written, written)
    except _Refused as refused:
        what = f"The archive {name} must hold plain files below one folder. Got {printable(str(refused))}."
        raise DataError(what, fix="get the archive from its publisher.") from None
    except _DAMAGE as error:
        what = f"The archive {name} must be readable. Got {printable(str(error)) or type(error).__name__}."
        raise DataError(what, fix="download it again.") from error
    except OSError as error:
        if error.errno not in _ODD:  # the disk's fault, not the archive's
            raise
        raise DataError(f"The archive {name} must be readable. Got {error}.", fix="download it again.") from error
    return written


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                mode = info.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _Refused(f"{info.filename[:80]!r}, a link or a device")
                if info.flag_bits & 1:
                    raise _Refused(f"{info.filename[:80]!r}, which is encrypted")
                if info.is_dir():
                    _safe_name(info.filename)
                else:
                    yield _Member(info.filename, info.file_size, lambda info=info: bundle.open(info))  # type: ignore[misc]
        return
    with tarfile.open(archive, "r:*") as tape:
        for entry in tape:
            if entry.isdir():
                _safe_name(entry.name)
            elif entry.isreg():
                yield _Member(entry.name, entry.size, lambda entry=entry: tape.extractfile(entry))  # type: ignore[misc]
            else:
                raise _Refused(f"{entry.name[:80]!r}, a link or a device")


def _safe_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or drive:
        raise _Refused(f"{name[:80]!r}, a path that leaves its folder")
    return path


def _write(member: _Member, target: Path) -> int:
    """Write one file; 0 if the same one is there already."""
    source = member.open()
    if source is None:
        raise _Refused(f"{member.name[:80]!r}, which is no file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source:
        if target.exists():
            if target.read_bytes() != source.read(member.size + 1):
                raise _Refused(f"{member.name[:80]!r}, which another file of that name differs from")
            return 0
        with target.open("xb") as stream:
            left = member.size
            while block := source.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    raise _Refused(f"{member.name[:80]!r}, longer than announced")
                stream.write(block)
        if left:
            raise _Refused(f"{member.name[:80]!r}, shorter than announced")
    return 1
