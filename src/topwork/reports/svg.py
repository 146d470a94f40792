"""A drawing made safe and fit for a page: SVG text -> an inline `<svg>`. Knows nothing about what it shows.

The text may come from a file of somebody else's run, so only elements and attributes that draw are kept. Colours of
`PALETTE` become CSS variables with the same names, so that the page's dark and light colours apply.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from topwork.reports.palette import PALETTE

__all__ = ["inline_svg"]

_ELEMENTS = frozenset({"svg", "g", "defs", "path", "use", "text", "rect", "clipPath", "image"})
_GEOMETRY = frozenset({"d", "x", "y", "width", "height", "transform", "viewBox", "preserveAspectRatio"})
_PAINT = frozenset({"style", "fill", "stroke", "opacity", "clip-path"})
_PICTURE = "data:image/png;base64,"


def inline_svg(text: str, *, name: str, label: str) -> str:
    """One `<svg>` element, ready to stand in HTML without escaping.

    Args:
        text: an SVG document.
        name: prefix of all ids, so that several drawings share a page; letters, digits and `_`.
        label: what the drawing shows, for those who cannot see it.

    Raises:
        ValueError: if the text is not SVG.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"The figure {name!r} must be SVG. Got text that is not XML: {error}.") from None
    if _local(root.tag) != "svg":
        raise ValueError(f"The figure {name!r} must be SVG. Got <{_local(root.tag)}>.")
    clean = _cleaned(root, f"{name}-")
    for key in ("width", "height", "style", "id"):
        clean.attrib.pop(key, None)
    clean.attrib.update({"role": "img", "aria-label": label, "class": f"drawing drawing-{name}"})
    return ElementTree.tostring(clean, encoding="unicode")


def _local(tag: object) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""  # comments have a function for a tag


def _cleaned(element: ElementTree.Element, prefix: str) -> ElementTree.Element:
    clean = ElementTree.Element(_local(element.tag))
    clean.text = element.text if clean.tag == "text" else None
    for key, value in element.attrib.items():
        name = _local(key)
        if name == "href":
            if value.startswith("#"):
                clean.set("href", f"#{prefix}{value[1:]}")
            elif clean.tag == "image" and value.startswith(_PICTURE):
                clean.set("href", value)
        elif name == "id":
            clean.set("id", prefix + value)
        elif name in _GEOMETRY | _PAINT and (safe := _safe_value(value, prefix)) is not None:
            clean.set(name, safe)
    for child in element:
        if _local(child.tag) in _ELEMENTS:
            clean.append(_cleaned(child, prefix))
    return clean


def _safe_value(value: str, prefix: str) -> str | None:
    value = re.sub(r"url\(\s*#", f"url(#{prefix}", value)
    if re.search(r"url\((?!#)|\\|@import|expression", value, re.IGNORECASE):
        return None  # a style could fetch, or hide that it does
    for role, colour in PALETTE.items():
        value = re.sub(colour, f"var(--{role})", value, flags=re.IGNORECASE)
    # The page's own font; sizes and anchors stay as the layout measured them.
    return re.sub(r"font-family:[^;]*;?\s*|(?<=px) '[^;]*sans-serif(?=;|$)", _font, value)


def _font(match: re.Match[str]) -> str:
    return "" if match.group().startswith("font-family") else " var(--sans)"
