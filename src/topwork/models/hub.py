"""Weights in the Hugging Face cache, and how they get there. Knows nothing about networks."""

from __future__ import annotations

import dataclasses
import os
import socket
import urllib.parse
import urllib.request
from pathlib import Path

from topwork.digest import file_sha256
from topwork.errors import WeightsError
from topwork.models.weights import WeightsSource, weights_folder

__all__ = ["cached_hub_file", "hub_source"]

_FILE = "model.safetensors"


def cached_hub_file(repository: str) -> Path | None:
    """The weights of a hub repository in the local cache, or None. Never uses the network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, _FILE, cache_dir=_cache_folder())
    return Path(found) if isinstance(found, str) else None


def hub_source(source: WeightsSource, repository: str | None) -> WeightsSource:
    """A hub source with its file: from the local cache, else downloaded if the source allows it.

    Args:
        source: of kind `hub`.
        repository: the hub repository of the network's weights; None if it has none.

    Raises:
        WeightsError: if there is no such file; says where it was looked for and how to get it.
    """
    if repository is None:
        raise WeightsError(
            f"There are no pretrained weights of {source.name} on the hub.",
            fix="set backbone.weights=none for random weights, or give a safetensors file or another network.",
        )
    path, reason = cached_hub_file(repository), "not downloaded, because weights=packaged never downloads"
    if path is None and source.download:
        path, reason = _download(repository)
    if path is None:
        raise _missing(source, repository, reason=reason)
    return dataclasses.replace(
        source, label=f"Hugging Face hub {repository}", path=path, sha256=file_sha256(path.resolve())
    )


def _cache_folder() -> Path:
    from huggingface_hub import constants

    return Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)


def _download(repository: str) -> tuple[Path | None, str]:
    from huggingface_hub import constants, hf_hub_download

    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname or ""
    if not constants.HF_HUB_OFFLINE and not urllib.request.getproxies():
        try:  # the hub's client would try for 23 seconds
            socket.getaddrinfo(host, 443)
        except OSError as error:
            return None, f"the download failed because {host} cannot be reached ({error})"
    try:
        return Path(hf_hub_download(repository, _FILE, cache_dir=_cache_folder(), etag_timeout=5)), ""
    except Exception as error:  # offline, proxy, gated, gone: many kinds from several libraries, one remedy
        reason = (str(error).strip().splitlines() or [""])[0][:160]
        return None, f"the download failed with {type(error).__name__}: {reason}"


def _missing(source: WeightsSource, repository: str, *, reason: str) -> WeightsError:
    folder = weights_folder()
    first = f"{folder / source.name}.safetensors" if folder else "TOPWORK_WEIGHTS (not set)"
    remedy = "" if source.download else "set backbone.weights=hub to download them; or "
    return WeightsError(
        f"The pretrained weights of {source.name} were not found. Looked in {first} and {_cache_folder()}; {reason}.",
        fix=(
            f"{remedy}on a machine with internet download https://huggingface.co/{repository}/resolve/main/{_FILE}, "
            f"save it as {source.name}.safetensors in a folder here, and set TOPWORK_WEIGHTS to that folder; "
            "or set backbone.weights=none for random weights."
        ),
    )
