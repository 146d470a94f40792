"""The peers' virtual environments: made when missing, never changed afterwards.

The peers on PyTorch see one copy of it (`pytorch`, with torchvision and timm: 5.5 GB) through a `.pth` file; pip counts
what is there as installed, and everything else a peer needs goes into its own folder. Keras shares nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ENVIRONMENTS", "Environment", "python_of"]

_TORCH = ("torch==2.14.1", "torchvision==0.29.1", "timm==1.0.31", "safetensors==0.8.0", "pillow==13.0.0")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One virtual environment.

    Args:
        packages: what pip installs.
        sees: another environment whose packages are visible too.
    """

    packages: tuple[str, ...]
    sees: str | None = None


ENVIRONMENTS = {
    "pytorch": Environment(packages=_TORCH),
    "fastai": Environment(packages=("fastai==2.8.12",), sees="pytorch"),
    "huggingface": Environment(packages=("transformers==5.24.0", "accelerate==1.15.0"), sees="pytorch"),
    "keras": Environment(packages=("tensorflow-cpu==2.21.0", "keras==3.15.1", "safetensors==0.8.0")),
}


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of an environment, which is made first if it is not complete.

    Raises:
        subprocess.CalledProcessError: if pip cannot install a package; its output says which.
    """
    environment, home = ENVIRONMENTS[name], folder / name
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done, wanted = home / "complete.json", list(environment.packages)
    if done.exists() and json.loads(done.read_text(encoding="utf-8")) == wanted:
        return python
    if environment.sees is not None:
        python_of(environment.sees, folder)
    print(f"Making the environment {home}: {' '.join(wanted)}", flush=True)
    venv.create(home, with_pip=True)
    if environment.sees is not None:
        shared, own = site_packages(folder / environment.sees), site_packages(home)
        (own / f"{environment.sees}.pth").write_text(f"{shared}\n", encoding="utf-8")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    subprocess.run(command, check=True)
    done.write_text(json.dumps(wanted), encoding="utf-8")
    return python


def site_packages(home: Path) -> Path:
    """Where an environment keeps its packages."""
    if sys.platform == "win32":
        return home / "Lib" / "site-packages"
    return home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
