"""Every stored row of the intake manifest becomes the picture or the named refusal that it asks for."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.data.decode import decode, decode_bytes
from topwork.data.fingerprint import fingerprint
from topwork.data.scan import scan
from topwork.errors import DecodeError

pytestmark = pytest.mark.slow

HEIC = importlib.util.find_spec("pillow_heif") is not None

# name -> (width, height) of the upright picture, or the kind of the refusal
EXPECTED: dict[str, tuple[int, int] | str] = {
    **{f"exif_landscape_{orientation}.jpg": (1800, 1200) for orientation in range(9)},
    **{f"exif_portrait_{orientation}.jpg": (1200, 1800) for orientation in (3, 6, 8)},
    "exif_orientation_6.webp": (128, 128),
    "exif_orientation_text.png": (512, 512),
    "exif_orientation_9_invalid.jpg": (480, 369),
    "exif_broken_block.jpg": (200, 200),
    "exif_typeerror.jpg": (800, 531),
    "exif_multiple.jpg": (1, 1),
    "exif_huge_count.jpg": (1600, 1200),
    "exif_zero_len_string.jpg": (4032, 2012),
    "exif_samples_corrupted.jpg": (3648, 2736),
    "exif_invalid_image01551.jpg": (61, 58),
    "exif_invalid_image02206.jpg": (65, 65),
    "cmyk.jpg": (100, 100),
    "cmyk_icc.jpg": (500, 333),
    "jpeg_16bit_qtables.jpg": (128, 128),
    "jpeg_junk_header.jpg": (1024, 768),
    "mpo_in_jpg.jpg": (640, 480),
    "iphone_hdr.jpg": (3264, 2448),
    "truncated_real.jpg": "truncated",
    "corrupt_header.jpg": "truncated",
    "truncated_half.jpg": "truncated",
    "missing_eoi.jpg": (384, 512),
    "truncated_progressive.jpg": "truncated",
    "broken_huffman.jpg": "corrupt",
    "broken_dht.jpg": "corrupt",
    "huge_dims.jpg": "too-many-pixels",
    "png_broken.png": "truncated",
    "png_broken_stream.png": "truncated",
    "truncated.png": "truncated",
    "png_text_bomb.png": "decompression-bomb",
    "png_65536x65536.png": "too-many-pixels",
    "png_bomb_20000.png": "too-many-pixels",
    "png_bad_ihdr_crc.png": "corrupt",
    "rgba_gradient.png": (256, 192),
    "palette.png": (162, 150),
    "palette_trns.png": (64, 64),
    "la8.png": (400, 300),
    "png16_rgb.png": (900, 600),
    "png16_gray.png": (256, 192),
    "png_exif.png": (512, 512),
    "png_display_p3.png": (8, 8),
    "animated.webp": (245, 245),
    "animated.gif": (80, 80),
    "gif_no_palette.gif": (1, 1),
    "fuzz.sgi": "format-not-allowed",
    "fuzz_a.tif": "corrupt",
    "fuzz_oom.tif": "corrupt",
    "iphone.HEIC": (2566, 3313) if HEIC else "heic-support-missing",
    "small.heic": (64, 64) if HEIC else "heic-support-missing",
    "truncated.heic": "truncated",
    "empty.heic": "empty",
    "photo.jp2": "format-not-allowed",
    "photo.bmp": (128, 128),
    "office_file.jpg": "office-document",
    "imageNotFound.gif": (300, 300),
    "zero_byte.jpg": "empty",
    "html_404.jpg": "html",
    "git_lfs_pointer.jpg": "git-lfs-pointer",
    "png_named.jpg": (256, 192),
    "jpeg_named.png": (384, 512),
    "UPPER.JPG": (384, 512),
    "no_extension": (384, 512),
    "strip_3000x4.png": (3000, 4),
    "all_black.jpg": (320, 240),
    "trailing_garbage.jpg": (384, 512),
    "duplicate_b.jpg": (384, 512),
    "duplicate_reencoded.jpg": (384, 512),
}
WARNED = {
    "missing_eoi.jpg": "end marker",
    "png_named.jpg": "PNG",
    "jpeg_named.png": "JPEG",
}


@pytest.fixture(scope="module")
def intake(test_data: Path) -> Path:
    folder = test_data / "intake"
    if not folder.is_dir():
        pytest.skip(f"needs the broken files of {folder}")
    return folder


@pytest.fixture(scope="module")
def stored(intake: Path) -> set[str]:
    with (intake.parent / "intake_manifest.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {row["file"] for row in rows if "make this one in the test" not in row["expected"]}


def test_every_stored_row_has_an_expectation(stored: set[str], intake: Path) -> None:
    assert stored == set(EXPECTED)
    assert stored == {path.name for path in intake.iterdir()}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_row(name: str, intake: Path) -> None:
    expected = EXPECTED[name]
    if isinstance(expected, str):
        with pytest.raises(DecodeError, match=name.replace(".", r"\.")) as caught:
            decode(intake / name)
        assert caught.value.kind == expected
        return
    decoded = decode(intake / name)
    assert (decoded.width, decoded.height) == expected
    assert decoded.pixels.shape == (expected[1], expected[0], 3)
    assert decoded.pixels.dtype == np.uint8
    assert len(decoded.warnings) == (name in WARNED)
    assert WARNED.get(name, "") in "".join(decoded.warnings)


def _small(path: Path) -> np.ndarray:
    return np.asarray(Image.fromarray(decode(path).pixels).resize((90, 60), Image.Resampling.BOX), int)


def test_all_nine_orientations_look_alike(intake: Path) -> None:
    first = _small(intake / "exif_landscape_1.jpg")
    for orientation in range(9):
        difference = np.abs(_small(intake / f"exif_landscape_{orientation}.jpg") - first)
        assert difference.mean() < 3, orientation  # each shows its own digit
        wrong_way_up = np.abs(_small(intake / f"exif_landscape_{orientation}.jpg")[::-1] - first)
        assert wrong_way_up.mean() > 20


def test_orientation_in_a_png_text_chunk_is_applied(intake: Path) -> None:
    with Image.open(intake / "exif_orientation_text.png") as stored:
        half_turn = np.asarray(stored.convert("RGB"))[::-1, ::-1]
    np.testing.assert_array_equal(decode(intake / "exif_orientation_text.png").pixels, half_turn)


def test_sixteen_bit_grey_keeps_its_levels(intake: Path) -> None:
    assert len(np.unique(decode(intake / "png16_gray.png").pixels)) > 200


def test_cmyk_is_natural(intake: Path) -> None:
    pixels = decode(intake / "cmyk.jpg").pixels  # "RED" in red on black
    assert pixels.mean() < 64
    assert pixels[..., 0].mean() > 3 * pixels[..., 1].mean()


def test_alpha_shows_white_paper(intake: Path) -> None:
    pixels = decode(intake / "rgba_gradient.png").pixels.astype(int)
    assert max(pixels[:, 0].min(), pixels[:, -1].min()) > 250  # one end of the ramp is fully transparent
    assert decode(intake / "la8.png").pixels[0, 0].tolist() == [255, 255, 255]


def test_the_mended_jpeg_has_every_pixel(intake: Path) -> None:
    np.testing.assert_array_equal(
        decode(intake / "missing_eoi.jpg").pixels,
        decode_bytes((intake / "missing_eoi.jpg").read_bytes() + b"\xff\xd9").pixels,
    )


def test_the_reencoded_copy_has_nearly_the_same_hash(intake: Path) -> None:
    one, other = (fingerprint(intake / f"duplicate_{name}.jpg", name=name) for name in ("b", "reencoded"))
    assert (one.phash ^ other.phash).bit_count() <= 4
    assert one.sha256 != other.sha256


def test_a_scan_of_the_folder_names_every_refusal(intake: Path, tmp_path: Path) -> None:
    table = tmp_path / "intake.csv"
    names = sorted(name for name in EXPECTED if name != "no_extension")
    lines = [f"{name},{'even' if number % 2 else 'odd'}" for number, name in enumerate(names)]
    table.write_text("\n".join(["path,label,root", *(f"{line},{intake}" for line in lines)]), encoding="utf-8")
    found = scan(table)
    refused = {name for name in names if isinstance(EXPECTED[name], str)}
    unreadable = {finding.files[0]: finding.evidence for finding in found.findings if finding.kind == "unreadable"}
    assert set(unreadable) == refused
    assert all(unreadable[name].startswith(str(EXPECTED[name])) for name in refused)
    assert {record.path for record in found.records} == set(names) - refused
