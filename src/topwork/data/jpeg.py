"""What the marker structure of a JPEG tells before and after decoding. Knows nothing about files or Pillow.

Source of the markers: ITU-T T.81 (1992), table B.1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator

__all__ = ["count_scans", "lacks_only_its_end", "zeros_replace_its_end"]

_END = b"\xff\xd9"
# In entropy-coded data a marker is 0xFF and anything but a stuffed 0, a fill byte or a restart.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}
_SCAN = 0xDA
_RESERVED = bytes(64)
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and parameters of each segment of the first picture; entropy-coded data is passed over."""
    position = 2
    while found := _NEXT_MARKER.search(data, position):
        marker = data[found.start() + 1]
        position = found.end()
        length = 0
        if marker not in _WITHOUT_LENGTH:
            length = max(2, int.from_bytes(data[position : position + 2], "big"))
        yield marker, data[position + 2 : position + length]
        if marker == _END[1]:
            return
        position += length


def count_scans(data: bytes) -> int:
    """Scans of the first picture in the data: 1 for most, about 10 if progressive, thousands in a time bomb."""
    return sum(marker == _SCAN for marker, _ in _segments(data))


def zeros_replace_its_end(data: bytes) -> bool:
    """Whether the data ends in zeros without an end marker: a download that reserved its space and broke off.

    Decoders take the zeros for coded data and paint the rest of the picture in one colour.
    """
    return data.endswith(_RESERVED) and all(marker != _END[1] for marker, _ in _segments(data))


def _has_every_scan(data: bytes) -> bool:
    """Whether all 64 coefficients of every component were begun and refined to their last bit."""
    components: set[int] = set()
    missing: dict[int, set[int]] = {}
    for marker, body in _segments(data):
        if marker in _FRAMES:
            components = set(body[6::3])
        elif marker == _SCAN and len(body) >= 4:
            first, last, bits_to_come = body[-3], body[-2], body[-1] & 15
            for component in body[1:-3:2]:
                band = missing.setdefault(component, set(range(64)))
                if bits_to_come == 0:
                    band.difference_update(range(first, last + 1))
    return components == set(missing) and not any(missing.values())


def lacks_only_its_end(data: bytes, look: Callable[[bytes], bytes]) -> bool:
    """Whether every pixel is there although the end marker is not.

    If the coded data is complete, whatever stands between it and the end marker changes no pixel. If it is not, the
    decoder takes that filling for coefficients, and different fillings look different.

    Args:
        data: a JPEG that ends without the end marker.
        look: decodes bytes and returns the pixels' bytes; raises if it cannot.

    Returns:
        False also if any of the trials cannot be decoded.
    """
    coded = data.rstrip(b"\x00") if data.endswith(_RESERVED) else data
    coded = coded.removesuffix(b"\xff")  # half of the end marker
    if not _has_every_scan(coded):
        return False
    looks = set()
    for filling in (b"", b"\x00" * 64, b"\x55" * 64, b"\xaa" * 64, b"\xff\x00" * 64):
        try:
            pixels = look(coded + filling + _END)
        except (OSError, SyntaxError, ValueError):
            return False
        looks.add(hashlib.sha256(pixels).digest())
        if len(looks) > 1:
            return False
    return True
