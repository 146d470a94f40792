"""What the intake manifest asks to be made, and what holds over all of its rows: one view whatever the orientation."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.data.decode import decode
from topwork.data.scan import scan
from topwork.data.view import evaluation_view
from topwork.spec import InputSpec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def intake(test_data: Path) -> Path:
    folder = test_data / "intake"
    if not folder.is_dir():
        pytest.skip(f"needs the broken files of {folder}")
    return folder


@pytest.fixture(scope="module")
def made_here(intake: Path) -> list[dict[str, str]]:
    with (intake.parent / "intake_manifest.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row for row in rows if "make this one in the test" in row["expected"]]


def test_rows_that_are_made_here(made_here: list[dict[str, str]], intake: Path, tmp_path: Path) -> None:
    """Odd names are kept, hidden and AppleDouble files skipped, a folder named .jpg entered, a dangling link named."""
    folder = tmp_path / "photos" / "odd"
    folder.mkdir(parents=True)
    photo = (intake / "UPPER.JPG").read_bytes()
    tiff = io.BytesIO()
    Image.fromarray(decode(intake / "UPPER.JPG").pixels).save(tiff, "TIFF", compression="tiff_lzw")
    expected: set[str] = set()
    for number, row in enumerate(made_here):
        name, kind = row["file"], row["kind"]
        content = (tiff.getvalue() if name.endswith(".tiff") else photo) + b"x" * number  # no two are copies
        if kind == "directory named .jpg":
            (folder / name).mkdir()
            (folder / name / "inner.jpg").write_bytes(content)
            expected.add(f"odd/{name}inner.jpg")
        elif kind == "dangling symlink":
            (folder / name).symlink_to(folder / "nowhere.jpg")
        else:
            (folder / name).write_bytes(b"\x00\x05\x16\x07" if kind.startswith("AppleDouble") else content)
            if "SKIP" not in row["expected"]:
                expected.add(f"odd/{name}")
    (tmp_path / "photos" / "even").mkdir()
    (tmp_path / "photos" / "even" / "x.jpg").write_bytes((intake / "cmyk.jpg").read_bytes())
    found = scan(tmp_path / "photos")
    assert len(made_here) == 8
    assert {record.path for record in found.records} == expected | {"even/x.jpg"}
    assert len(expected) == 5
    refused = [finding for finding in found.findings if finding.kind == "link_refused"]
    assert [finding.files for finding in refused] == [("odd/dangling_link.jpg",)]


def test_orientations_give_the_same_view(intake: Path, tmp_path: Path) -> None:
    """One picture stored in eight ways is one tensor, to the last bit; so predictions are the same too."""
    upright = Image.fromarray(decode(intake / "exif_landscape_1.jpg").pixels).resize((300, 200))
    spec = InputSpec(size=224)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that undoes each orientation
    views = []
    for orientation in range(1, 9):
        stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        stored.save(path, exif=exif)
        views.append(evaluation_view(decode(path).pixels, spec))
    for orientation, view in enumerate(views[1:], start=2):
        np.testing.assert_array_equal(view, views[0], err_msg=str(orientation))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_row_takes_much_memory(intake: Path) -> None:
    """A process that decodes every stored file, one after the other, stays below 500 MB."""
    # VmHWM: a child's ru_maxrss begins with that of the process it was forked from
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from topwork.data.decode import decode\n"
        "from topwork.errors import DecodeError\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try: decode(path)\n"
        "    except DecodeError: pass\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(intake)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 500_000_000
