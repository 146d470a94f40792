"""What is known about the data sets of others: addresses, sizes, checksums, classes, licences. Opens no connection."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from topwork.digest import digest

__all__ = ["KnownFile", "KnownSet", "known_sets"]


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """One file on a server.

    Args:
        urls: where it is, the official address first; all end in the same name.
        bytes: its size.
        sha256: of its bytes.
        part: of a split that all its photos belong to, if there is one.
    """

    urls: tuple[str, ...]
    bytes: int
    sha256: str
    part: Literal["train", "val", "test"] | None = None

    @property
    def name(self) -> str:
        """The last step of its address."""
        return self.urls[0].rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """One data set.

    Args:
        name: what users type.
        summary: one line for lists.
        homepage: where its publisher describes it.
        licence: of the photos, in words.
        attribution: whom to name.
        classes: in the publisher's order.
        files: what is downloaded; none if only the user can do that.
        layout: `folders`: a photo's class is the folder it lies in; `oxford`: two tables say class and part.
        archive: what the user's own download is usually called, where there are no files.
    """

    name: str
    summary: str
    homepage: str
    licence: str
    attribution: str
    classes: tuple[str, ...]
    files: tuple[KnownFile, ...] = ()
    layout: Literal["folders", "oxford"] = "folders"
    archive: str = ""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def version(self) -> str:
        """Eight digits that change with everything that decides the content."""
        facts = asdict(self)
        decisive = {key: facts[key] for key in ("classes", "layout")} | {"files": [file.sha256 for file in self.files]}
        return digest(decisive)[:8]


@cache
def known_sets() -> dict[str, KnownSet]:
    """All of them, by name."""
    facts = tomllib.loads((Path(__file__).parent / "known.toml").read_text(encoding="utf-8"))
    return {name: _known_set(name, values) for name, values in facts.items()}


def _known_set(name: str, values: dict[str, Any]) -> KnownSet:
    files = tuple(KnownFile(**{**file, "urls": tuple(file["urls"])}) for file in values.pop("files", ()))
    return KnownSet(name=name, files=files, **{**values, "classes": tuple(values["classes"])})
