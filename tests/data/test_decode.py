"""Laws of the one decode path: any bytes become a picture or a named refusal, and the picture is what a person sees."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from topwork.data.decode import Limits, decode, decode_bytes, printable
from topwork.errors import DecodeError

ORIENTATION = 0x0112
TURNS = {  # how a viewer that knows EXIF turns the stored picture, by Pillow's own names
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """A smooth picture without symmetry."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray(np.uint8(np.stack([255 * x, 255 * y, 127 * (x * y) + 64], axis=2)))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def refusal(data: bytes, **options: Any) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_bytes(data, **options)
    assert caught.value.fix
    return caught.value.kind


@given(pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3))))
def test_png_round_trip_is_exact(pixels: np.ndarray) -> None:
    decoded = decode_bytes(encoded(Image.fromarray(pixels), "PNG"))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert (decoded.height, decoded.width) == pixels.shape[:2]
    assert decoded.warnings == ()


@pytest.mark.parametrize("form", ["BMP", "TIFF", "GIF", "WEBP", "AVIF", "JPEG", "PNG"])
def test_every_allowed_format_is_read(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form in ("JPEG", "AVIF") else {}
    decoded = decode_bytes(encoded(scene(), form, **options))
    difference = np.abs(decoded.pixels.astype(int) - np.asarray(scene()))
    assert difference.mean() < (8 if form == "GIF" else 3)  # 256 colours
    assert decoded.pixels.flags.c_contiguous
    assert not decoded.pixels.flags.writeable


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_in_every_format(form: str, orientation: int) -> None:
    stored = scene()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form in ("JPEG", "AVIF") else {}
    decoded = decode_bytes(encoded(stored, form, exif=exif, **options))
    seen = stored.transpose(TURNS[orientation]) if orientation in TURNS else stored
    assert (decoded.width, decoded.height) == seen.size
    assert np.abs(decoded.pixels.astype(int) - np.asarray(seen)).mean() < 3


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_invalid_orientation_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    np.testing.assert_array_equal(decode_bytes(encoded(scene(), "PNG", exif=exif)).pixels, np.asarray(scene()))


@given(noise=st.binary(max_size=200))
def test_broken_exif_never_changes_the_picture(noise: bytes) -> None:
    plain = encoded(scene(), "JPEG")
    block = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\x00" + noise
    spoiled = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]
    pixels = decode_bytes(spoiled).pixels
    assert sorted(pixels.shape) == sorted(np.asarray(scene()).shape)  # chance may spell a valid orientation


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    pixels = decode_bytes(encoded(Image.fromarray(ramp), "PNG")).pixels
    assert len(np.unique(pixels)) > 200
    np.testing.assert_array_equal(pixels[:, :, 0], np.rint(ramp / 257))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-3.0, 9.0), (0.0, 65535.0)])
def test_float_grey_uses_the_whole_range(low: float, high: float) -> None:
    ramp = np.linspace(low, high, 4096, dtype=np.float32).reshape(64, 64)
    decoded = decode_bytes(encoded(Image.fromarray(ramp), "TIFF"))
    assert (decoded.pixels.min(), decoded.pixels.max()) == (0, 255)
    assert (np.diff(decoded.pixels[:, :, 0].ravel().astype(int)) >= 0).all()
    assert decoded.warnings


def test_float_grey_without_numbers_is_black() -> None:
    nothing = np.full((4, 4), np.nan, np.float32)
    assert decode_bytes(encoded(Image.fromarray(nothing), "TIFF")).pixels.max() == 0


@given(pixels=hnp.arrays(np.uint8, (6, 5, 4)))
def test_alpha_is_composited_on_white(pixels: np.ndarray) -> None:
    alpha = pixels[:, :, 3:] / 255
    expected = pixels[:, :, :3] * alpha + 255 * (1 - alpha)
    decoded = decode_bytes(encoded(Image.fromarray(pixels, "RGBA"), "PNG"))
    np.testing.assert_allclose(decoded.pixels, expected, atol=1)


def test_transparent_colours_are_white() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    grey = Image.new("L", (4, 4), 7)
    for image, key in ((palette, 1), (grey, 7), (Image.new("RGB", (4, 4), (1, 2, 3)), (1, 2, 3))):
        assert decode_bytes(encoded(image, "PNG", transparency=key)).pixels.min() == 255


def test_grey_with_alpha_and_bits() -> None:
    assert decode_bytes(encoded(Image.new("LA", (4, 4), (0, 0)), "PNG")).pixels.min() == 255
    assert decode_bytes(encoded(Image.new("1", (4, 4), 1), "PNG")).pixels.min() == 255


def test_cmyk_is_not_inverted() -> None:
    red = decode_bytes(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")).pixels
    assert red[..., 0].min() > 240
    assert red[..., 1:].max() < 15


def test_a_large_picture_is_converted_like_a_small_one() -> None:
    small = scene(200, 100).convert("RGBA")
    small.putalpha(Image.linear_gradient("L").resize((200, 100)))
    large = Image.new("RGBA", (2400, 2000))
    large.paste(small, (100, 1900))
    np.testing.assert_array_equal(
        decode_bytes(encoded(large, "PNG", compress_level=1)).pixels[1900:, 100:300],
        decode_bytes(encoded(small, "PNG")).pixels,
    )


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode_bytes(data).pixels, np.asarray(frames[0]))


def test_many_frames_are_refused_where_the_header_tells_and_never_read_elsewhere() -> None:
    frames = [Image.new("L", (4, 4), shade) for shade in range(30)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert refusal(data, limits=Limits(frames=20)) == "too-many-frames"
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    spoiled = gif[:200] + bytes(len(gif) - 200)
    np.testing.assert_array_equal(decode_bytes(spoiled).pixels, decode_bytes(gif).pixels)


# --- DCT scaling ---------------------------------------------------------------------------------------------------


@given(short=st.integers(16, 700), target=st.integers(16, 256))
@settings(max_examples=30, deadline=None)
def test_scaling_keeps_twice_the_target(short: int, target: int) -> None:
    decoded = decode_bytes(encoded(scene(short + 37, short), "JPEG"), target=target)
    assert min(decoded.pixels.shape[:2]) >= min(short, 2 * target)
    assert (decoded.width, decoded.height) == (short + 37, short)
    if short >= 4 * target:
        assert min(decoded.pixels.shape[:2]) < short


def test_a_scaled_jpeg_looks_like_the_whole_one() -> None:
    data = encoded(scene(800, 600), "JPEG", quality=95)
    whole = Image.fromarray(decode_bytes(data).pixels).resize((80, 60), Image.Resampling.BOX)
    scaled = Image.fromarray(decode_bytes(data, target=64).pixels).resize((80, 60), Image.Resampling.BOX)
    assert np.abs(np.asarray(whole, int) - np.asarray(scaled, int)).max() <= 3


def test_other_formats_are_never_scaled() -> None:
    assert decode_bytes(encoded(scene(400, 300), "PNG"), target=16).pixels.shape == (300, 400, 3)


# --- refusals ------------------------------------------------------------------------------------------------------


def becomes_a_picture_or_a_refusal(data: bytes, **options: Any) -> bool:
    try:
        pixels = decode_bytes(data, **options).pixels
    except DecodeError as error:
        return bool(error.kind and error.what and error.fix)
    return pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


@given(data=st.binary(max_size=300))
def test_any_bytes_become_a_picture_or_a_refusal(data: bytes) -> None:
    assert becomes_a_picture_or_a_refusal(data)


_SAMPLES = [
    encoded(scene(40, 30), "JPEG"),
    encoded(scene(40, 30), "JPEG", progressive=True),
    encoded(scene(40, 30).convert("RGBA"), "PNG"),
    encoded(scene(40, 30).quantize(16), "PNG"),
    encoded(scene(40, 30), "WEBP"),
    encoded(scene(40, 30), "AVIF"),
    encoded(scene(40, 30), "GIF"),
    encoded(scene(40, 30), "BMP"),
    encoded(scene(40, 30), "TIFF", compression="tiff_lzw"),
    encoded(scene(40, 30), "TIFF"),
]


@given(
    data=st.sampled_from(_SAMPLES),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    keep=st.floats(0, 1),
    cut=st.booleans(),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_pictures_become_a_picture_or_a_refusal(
    data: bytes, edits: list[tuple[int, int]], keep: float, cut: bool
) -> None:
    spoiled = bytearray(data[: int(len(data) * keep)] if cut else data)
    for place, value in edits:
        if spoiled:
            spoiled[place % min(len(spoiled), 400)] = value
    assert becomes_a_picture_or_a_refusal(bytes(spoiled), limits=Limits(memory=50_000_000), target=16)


@given(cut=st.integers(3, 9000), progressive=st.booleans())
@settings(deadline=None)
def test_a_cut_jpeg_is_never_filled_with_grey(cut: int, progressive: bool) -> None:
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)), "JPEG", progressive=progressive)
    assert refusal(data[:-cut]) in ("truncated", "not-an-image", "empty")


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_only_lacks_its_end_is_accepted_with_a_warning(lost: int, progressive: bool) -> None:
    data = encoded(scene(), "JPEG", progressive=progressive)
    mended = decode_bytes(data[:-lost])
    np.testing.assert_array_equal(mended.pixels, decode_bytes(data).pixels)
    assert mended.warnings == ("the end marker was missing; every pixel is there",)


def test_space_reserved_by_a_broken_download_is_no_picture() -> None:
    data = encoded(scene(400, 300), "JPEG")
    assert refusal(data[: len(data) // 2] + bytes(100_000)) == "truncated"


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*c) for c in chunks) + chunk(b"IEND", b"")


def test_bombs_are_refused_by_their_header() -> None:
    assert refusal(_png(60_000, 60_000)) == "too-many-pixels"
    assert refusal(_png(2**31 - 1, 2**31 - 1)) == "too-many-pixels"
    text = b"note\x00\x00" + zlib.compress(bytes(50_000_000), 9)
    assert refusal(_png(8, 8, (b"zTXt", text))) == "decompression-bomb"
    webp = b"RIFF\x1e\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\xfe\x3f\x00\xfe\x3f\x00"
    assert refusal(webp) == "too-many-pixels"
    assert refusal(encoded(scene(), "PNG"), limits=Limits(bytes=100)) == "too-many-bytes"
    assert refusal(encoded(scene(200, 200), "PNG"), limits=Limits(memory=200 * 200 * 7 - 1)) == "too-many-pixels"


def test_a_time_bomb_of_scans_is_refused() -> None:
    data = encoded(scene(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    assert refusal(data[:start] + data[start:-2] * 200 + b"\xff\xd9") == "too-many-scans"
    assert decode_bytes(data + data[start:] * 200).width == 96  # what follows the end is not looked at


@pytest.mark.slow
def test_bombs_take_little_memory(tmp_path: Path) -> None:
    bombs = {
        "pixels.png": _png(60_000, 60_000, (b"IDAT", zlib.compress(bytes(60_000 * 7_500), 9))),
        "text.png": _png(8, 8, *[(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(900_000), 9))] * 200),
        "largest.png": _png(9_999, 9_999, (b"IDAT", zlib.compress(bytes(9_999 * 1_251), 9))),
    }
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    # On Linux a child's ru_maxrss begins with that of the process it was forked from, which holds torch by now;
    # VmHWM is the child's own.
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from topwork.data.decode import decode\nfrom topwork.errors import DecodeError\n"
        "for path in sys.argv[1:]:\n    try: decode(path)\n    except DecodeError: pass\n"
        "status = Path('/proc/self/status')\n"
        "peak = [line.split()[1] for line in status.read_text().splitlines() if line.startswith('VmHWM')]"
        " if status.exists() else [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]\n"
        "print(peak[0])"
    )
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in bombs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 500e6


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs-pointer"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "html"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "office-document"),
        (b"PK\x03\x04", "office-document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format-not-allowed"),
        (b"just words", "not-an-image"),
        (b"BMW is a car maker, not a bitmap", "not-an-image"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00", "not-an-image"),
    ],
)
def test_other_things_are_named(data: bytes, kind: str) -> None:
    assert refusal(data) == kind


def test_lab_is_refused_by_its_mode() -> None:
    assert refusal(encoded(Image.new("LAB", (8, 8)), "TIFF")) == "unsupported-mode"


# --- files ---------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    kinds = {"folder.jpg": "not-a-file", "dangling.jpg": "missing", "gone.jpg": "missing", "pipe.jpg": "not-a-file"}
    for name, kind in kinds.items():
        with pytest.raises(DecodeError, match=name) as caught:
            decode(tmp_path / name)
        assert caught.value.kind == kind


def test_content_decides_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    path = tmp_path / "photo.JPG"
    path.write_bytes(encoded(scene(), "PNG"))
    assert decode(path).warnings == ("the content is PNG although the name ends in .JPG",)
    path.with_suffix("").write_bytes(encoded(scene(), "PNG"))
    assert decode(path.with_suffix("")).warnings == ()


def test_a_name_that_is_not_utf8_is_printable(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    with pytest.raises(DecodeError, match=r"caf\\xe9\.jpg") as caught:
        decode(path)
    str(caught.value).encode("utf-8")
    assert printable("été 🌼.jpg") == "été 🌼.jpg"


def test_heic_without_support_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(DecodeError) as caught:
        decode_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic")
    assert caught.value.kind == "heic-support-missing"
    assert "topwork[heic]" in caught.value.fix


def test_ctrl_c_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(image: Image.Image) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("topwork.data.decode.rgb_pixels", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode_bytes(encoded(scene(), "PNG"))
