"""A drawing made safe and fit for a page: SVG text -> an inline `<svg>`. Knows nothing about what it shows.

The text may come from a file of somebody else's run, so only elements and attributes that draw are kept. Colours of
`PALETTE` become CSS variables with the same names, so that the page's dark and light colours apply.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from topwork.reports.palette import PALETTE

__all__ = ["inline_svg", "standalone_svg"]

_ELEMENTS = frozenset({"svg", "g", "defs", "path", "use", "text", "rect", "clipPath", "image"})
_GEOMETRY = frozenset({"d", "x", "y", "width", "height", "transform", "viewBox", "preserveAspectRatio"})
_PAINT = frozenset({"style", "fill", "stroke", "opacity", "clip-path"})
_ROLES = tuple(PALETTE.items())
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
    clean = _cleaned(_parsed(text, name), f"{name}-", colours={colour: f"var(--{role})" for role, colour in _ROLES})
    for key in ("width", "height", "style", "id"):
        clean.attrib.pop(key, None)
    clean.attrib.update({"role": "img", "aria-label": label, "class": f"drawing drawing-{name}"})
    return ElementTree.tostring(clean, encoding="unicode")


def standalone_svg(text: str, *, name: str) -> str:
    """The same drawing as a file of its own: what does not draw is left out, colours and size stay.

    Args:
        text: an SVG document.
        name: for errors.

    Raises:
        ValueError: if the text is not SVG.
    """
    root = _parsed(text, name)
    clean = _cleaned(root, "", colours={})
    clean.attrib.update({key: root.attrib[key] for key in ("width", "height") if key in root.attrib})
    clean.attrib.update({"xmlns": "http://www.w3.org/2000/svg", "stroke-linejoin": "round"})
    return ElementTree.tostring(clean, encoding="unicode")


def _parsed(text: str, name: str) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"The figure {name!r} must be SVG. Got text that is not XML: {error}.") from None
    if _local(root.tag) != "svg":
        raise ValueError(f"The figure {name!r} must be SVG. Got <{_local(root.tag)}>.")
    return root


def _local(tag: object) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""  # comments have a function for a tag


def _cleaned(element: ElementTree.Element, prefix: str, *, colours: Mapping[str, str]) -> ElementTree.Element:
    """What draws of an element, its ids behind a prefix, some colours replaced."""
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
        elif name in _GEOMETRY | _PAINT and (safe := _safe_value(value, prefix, colours=colours)) is not None:
            clean.set(name, safe)
    for child in element:
        if _local(child.tag) in _ELEMENTS:
            clean.append(_cleaned(child, prefix, colours=colours))
    return clean


def _safe_value(value: str, prefix: str, *, colours: Mapping[str, str]) -> str | None:
    value = re.sub(r"url\(\s*#", f"url(#{prefix}", value)
    if re.search(r"url\((?!#)|\\|@import|expression", value, re.IGNORECASE):
        return None  # a style could fetch, or hide that it does
    if not colours:
        return value
    for colour, other in colours.items():
        value = re.sub(colour, other, value, flags=re.IGNORECASE)
    # The page's own font; sizes and anchors stay as the layout measured them.
    return re.sub(r"font-family:[^;]*;?\s*|(?<=px) '[^;]*sans-serif(?=;|$)", _font, value)


def _font(match: re.Match[str]) -> str:
    return "" if match.group().startswith("font-family") else " var(--sans)"
