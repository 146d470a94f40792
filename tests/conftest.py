"""What every test may rely on: fixed seeds, no network, caches of its own, and the photos where they are present.

Photos are looked for in `TOPWORK_TEST_DATA`, weights in `TOPWORK_TEST_WEIGHTS`, else both in `../shared`.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
_HOME = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    # Before any import of the hub's client, which reads its settings only once.
    home = tempfile.mkdtemp(prefix="topwork-tests-")
    config.stash[_HOME] = home
    os.environ.update(
        TOPWORK_CACHE=f"{home}/cache", HF_HOME=f"{home}/hub", HF_HUB_OFFLINE="1", MPLBACKEND="Agg", NO_COLOR="1"
    )
    os.environ.update(KERAS_HOME=f"{home}/keras", KERAS_BACKEND="torch")
    os.environ.pop("TOPWORK_WEIGHTS", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_HOME], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A test that reaches for another machine fails, whether or not there is one."""

    def guard(real: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            is_internet = self.family in (socket.AF_INET, socket.AF_INET6)
            if is_internet and address[0] not in ("127.0.0.1", "::1", "localhost"):
                raise AssertionError(f"A test must stay on this machine. It called {address}.")
            return real(self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guard(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guard(socket.socket.connect_ex))
        yield


@pytest.fixture(autouse=True)
def seeds() -> int:
    """Every generator starts from the same place; torch is touched only if the test has loaded it."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    return 0


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos; skips where there is none."""
    folder = Path(os.environ.get("TOPWORK_TEST_DATA", SHARED / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real photos: there is no {folder}; TOPWORK_TEST_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def flowers(test_data: Path) -> Path:
    """A 2,895-photo part of TF-Flowers, five class folders."""
    folder = test_data / "flowers"
    if not folder.is_dir():
        pytest.skip(f"needs real photos: there is no {folder}")
    return folder


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Pretrained weights beyond the packaged ones; skips where there are none."""
    folder = Path(os.environ.get("TOPWORK_TEST_WEIGHTS", SHARED / "weights"))
    if not folder.is_dir():
        pytest.skip(f"needs pretrained weights: there is no {folder}; TOPWORK_TEST_WEIGHTS names another folder")
    return folder


@pytest.fixture(scope="session")
def drawn_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five class folders with ten small drawn flowers each. Read only."""
    from topwork.data.drawn import write_drawn_flowers

    folder = tmp_path_factory.mktemp("drawn") / "flowers"
    write_drawn_flowers(folder, n_per_class=10, size=96, seed=0, masks=False)
    return folder


@pytest.fixture(scope="session")
def browser() -> str:
    """The path of a Chromium: a machine without one skips, CI must have one."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail("CI needs a browser: .ci/run installs chromium")
    pytest.skip("needs Chromium, and this machine has none")
