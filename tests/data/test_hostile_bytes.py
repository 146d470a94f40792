"""Whatever a header promises, decoding ends in a picture or a named refusal and never takes 500 MB.

The bytes are tried by a process of their own, which is this file run as a script and prints by how many kilobytes its
peak of memory lies above what it needed before.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from topwork.data.decode import decode, decode_bytes
from topwork.errors import DecodeError

_FORMS = ["PNG", "JPEG", "progressive", "WEBP", "VP8X", "AVIF", "GIF", "BMP", "TIFF"]
_SIZES = st.one_of(
    st.sampled_from([0, 1, 3, 700, 5000, 9_999, 16_383, 30_000, 65_535, 2**24, 2**31 - 1, 2**32 - 1]),
    st.integers(0, 12_000),
)


def picture(form: str) -> bytes:
    """A small picture without a pattern, so that its size is spread over the whole file."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    stream = io.BytesIO()
    options = {"progressive": {"progressive": True}, "VP8X": {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}}.get(form, {})
    name = {"progressive": "JPEG", "VP8X": "WEBP"}.get(form, form)
    Image.fromarray(pixels).save(stream, name, **options)
    return stream.getvalue()


def resized(data: bytes, form: str, *, width: int, height: int) -> bytes:
    """The same file, whose header says another size."""
    changed = bytearray(data)

    def put(place: int, layout: str, *values: int) -> None:
        size = struct.calcsize(layout) // len(values)
        struct.pack_into(layout, changed, place, *(value % 256**size for value in values))

    if form == "PNG":
        put(16, ">II", width, height)
        put(29, ">I", zlib.crc32(changed[12:29]))
    elif form in ("JPEG", "progressive"):
        put(data.index(b"\xff\xc2" if form == "progressive" else b"\xff\xc0") + 5, ">HH", height, width)
    elif form == "WEBP":
        put(data.index(b"\x9d\x01\x2a") + 3, "<HH", width, height)
    elif form == "VP8X":
        changed[24:27], changed[27:30] = (struct.pack("<I", (value - 1) % 2**24)[:3] for value in (width, height))
    elif form == "AVIF":
        put(data.index(b"ispe") + 8, ">II", width, height)
    elif form == "GIF":
        put(6, "<HH", width, height)
        put(data.index(b",\0\0\0\0") + 5, "<HH", width, height)
    elif form == "BMP":
        put(18, "<II", width, height)
    else:
        start = struct.unpack_from("<I", data, 4)[0] + 2
        for number in range(struct.unpack_from("<H", data, start - 2)[0]):
            tag = struct.unpack_from("<H", data, start + 12 * number)[0]
            if tag in (256, 257, 278):  # width, length, rows in a strip
                put(start + 12 * number + 2, "<HI", 4, 1)
                put(start + 12 * number + 8, "<I", width if tag == 256 else height)
    return bytes(changed)


_SAMPLES = {form: picture(form) for form in _FORMS}


@given(
    form=st.sampled_from(_FORMS),
    width=_SIZES,
    height=_SIZES,
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    target=st.sampled_from([None, 224]),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def try_bytes(form: str, width: int, height: int, damage: list[tuple[int, int]], target: int | None) -> None:
    """Run by the script: an example of the property."""
    data = bytearray(resized(_SAMPLES[form], form, width=width, height=height))
    for place, value in damage:
        data[place % len(data)] = value
    try:
        pixels = decode_bytes(bytes(data), target=target).pixels
    except DecodeError as error:
        fine = bool(error.kind and error.fix)
    else:
        fine = (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
    assert fine


@pytest.mark.parametrize("form", _FORMS)
def test_the_header_is_really_changed(form: str) -> None:
    same = decode_bytes(resized(_SAMPLES[form], form, width=40, height=30))
    assert (same.width, same.height) == (40, 30)
    with pytest.raises(DecodeError, match=r"megapixels|pixels|damaged|truncated"):
        decode_bytes(resized(_SAMPLES[form], form, width=65_535, height=65_535))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_header_makes_decoding_take_much_memory() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) * 1024 < 450_000_000


# (form, mode, side, orientation): just below what the limits allow, or just above
LARGE = [
    ("JPEG", "RGB", 7550, 6),
    ("JPEG", "L", 9999, 6),
    ("JPEG", "CMYK", 7060, 8),
    ("PNG", "RGBA", 7060, 6),
    ("PNG", "I;16", 6020, 6),
    ("TIFF", "F", 3590, 6),
    ("WEBP", "RGB", 4580, 6),
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("form", "mode", "side", "orientation"), LARGE)
def test_the_largest_pictures_take_little_more_than_forecast(
    form: str, mode: str, side: int, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"TIFF": {"compression": "tiff_lzw"}, "PNG": {"compress_level": 1}}.get(form, {})
    Image.new(mode, (side, side)).save(tmp_path / "large", form, exif=exif, **options)
    done = subprocess.run([sys.executable, __file__, str(tmp_path / "large")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) * 1024 < 450_000_000


def _kilobytes(name: str) -> int:
    # VmHWM: a child's ru_maxrss begins with that of the process it was forked from
    return int(Path("/proc/self/status").read_text(encoding="ascii").split(f"{name}:")[1].split()[0])


if __name__ == "__main__":
    before = _kilobytes("VmRSS")
    for path in sys.argv[1:]:
        with suppress(DecodeError):
            decode(path)
    if not sys.argv[1:]:
        try_bytes()
    print(_kilobytes("VmHWM") - before)
