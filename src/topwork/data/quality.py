"""Photos that a network can hardly learn from: blank, dark, bright, blurred, tiny, very long, of an odd colour mode.

Judges the numbers of records; opens no file. Each limit was chosen so that the drawn flowers pass, that edits planted
among them do not, and that a look at what it names among 2,895 flowers agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from topwork.data.finding import Finding, Severity
from topwork.data.look import Look
from topwork.data.scan import ImageRecord

__all__ = ["quality_findings"]

_TINY = 64  # short side in pixels; networks look at 160 and more
_LONG = 3.0  # sides' ratio; the central square that a network sees is less than a third of such a picture
_BLANK = 16.0  # grey levels between the darkest and the brightest hundredth
_DARK, _BRIGHT = 64.0, 192.0  # grey levels that the brightest, or the darkest, hundredth does not reach
_BLURRED, _BLUR_SHARE, _NOTHING_SHARP = 6.0, 1 / 8, 1.5  # see `_blur_limit`
_TELLING = 10  # photos of one odd mode that all lie in one class: a network could learn the mode


@dataclass(frozen=True, kw_only=True)
class _Fault:
    """A fault, and how it is told.

    Args:
        kind: of the finding.
        measure: a number for a photo that has the fault, else None.
        worst: which of the photos the evidence names.
        text: `photos ...` what is wrong; how the worst one is called.
        remedy: of the finding.
    """

    kind: str
    measure: Callable[[ImageRecord, Look], float | None]
    worst: Callable[[list[tuple[float, str]]], tuple[float, str]]
    text: str
    remedy: str


def quality_findings(records: Sequence[ImageRecord]) -> tuple[Finding, ...]:
    """One finding a fault, with every photo that has it; only a well lit one is called blurred."""
    faults = (*_light_faults(), _blur_fault(records), *_shape_faults())
    return (*(finding for fault in faults for finding in _found(fault, records)), *_odd_modes(records))


def _light_faults() -> tuple[_Fault, ...]:
    return (
        _Fault(
            kind="blank",
            measure=lambda _, look: _contrast(look) if _blank(look) else None,
            worst=min,
            text=f"with less than {_BLANK:.0f} grey levels between dark and bright parts; the emptiest",
            remedy="delete them, or take them again.",
        ),
        _Fault(
            kind="dark",
            measure=lambda _, look: look.high if look.high < _DARK and not _blank(look) else None,
            worst=min,
            text=f"whose bright parts stay below grey level {_DARK:.0f} of 255; the darkest",
            remedy="brighten or delete them, unless photos to predict will be as dark.",
        ),
        _Fault(
            kind="bright",
            measure=lambda _, look: look.low if look.low > _BRIGHT and not _blank(look) else None,
            worst=max,
            text=f"whose dark parts stay above grey level {_BRIGHT:.0f} of 255; the brightest",
            remedy="darken or delete them, unless photos to predict will be as bright.",
        ),
    )


def _blur_fault(records: Sequence[ImageRecord]) -> _Fault:
    sharpness = [record.look.sharpness for record in records if record.look is not None]
    usual = median(sharpness) if sharpness else 0.0
    limit = _blur_limit(usual)
    return _Fault(
        kind="blurred",
        measure=lambda _, look: look.sharpness if look.sharpness < limit and _well_lit(look) else None,
        worst=min,
        text=f"with no part sharper than {limit:.2g} grey levels, where {usual:.2g} is usual; the most blurred",
        remedy="delete them, unless photos to predict will be as blurred.",
    )


def _shape_faults() -> tuple[_Fault, ...]:
    return (
        _Fault(
            kind="tiny",
            measure=lambda record, _: float(_short(record)) if _short(record) < _TINY else None,
            worst=min,
            text=f"with a side shorter than {_TINY} pixels; the smallest",
            remedy="find larger copies.",
        ),
        _Fault(
            kind="extreme_aspect",
            measure=lambda record, _: _aspect(record) if _aspect(record) > _LONG else None,
            worst=max,
            text=f"more than {_LONG:.0f} times as long as wide, most of it outside the square that counts; the longest",
            remedy="crop them to what the label means.",
        ),
    )


def _found(fault: _Fault, records: Sequence[ImageRecord]) -> Iterator[Finding]:
    """A finding on the photos that have a fault."""
    measured = ((fault.measure(record, record.look), record.path) for record in records if record.look is not None)
    found = [(value, path) for value, path in measured if value is not None]
    if found:
        value, path = fault.worst(found)
        count = "1 photo" if len(found) == 1 else f"{len(found)} photos"
        evidence = f"{count} {fault.text} is {path} with {value:.3g}."
        files = tuple(sorted(path for _, path in found))
        yield Finding(kind=fault.kind, severity="warning", files=files, evidence=evidence, remedy=fault.remedy)


def _blur_limit(usual: float) -> float:
    """Sharpness below which a photo counts as blurred: an eighth of the usual one, between 1.5 and 6 grey levels.

    Photos of soft things, or by soft lenses, are not faulty for being like all others. Of 400 flowers none lies below
    6; blurred with a sigma of 4 pixels (at a short side of 256), three quarters do.
    """
    return max(_NOTHING_SHARP, min(_BLURRED, usual * _BLUR_SHARE))


def _contrast(look: Look) -> float:
    return look.high - look.low


def _blank(look: Look) -> bool:
    return _contrast(look) < _BLANK


def _well_lit(look: Look) -> bool:
    """Whether there is light enough to speak of focus."""
    return not _blank(look) and look.high >= _DARK and look.low <= _BRIGHT


def _short(record: ImageRecord) -> int:
    return min(record.width, record.height)


def _aspect(record: ImageRecord) -> float:
    return max(record.width, record.height) / max(1, _short(record))


def _odd_modes(records: Sequence[ImageRecord]) -> Iterator[Finding]:
    photos: dict[str, list[ImageRecord]] = {}
    for record in records:
        if record.look is not None:
            photos.setdefault(record.look.mode, []).append(record)
    usual = max(photos, key=lambda mode: (len(photos[mode]), mode), default="")
    for mode, odd in sorted(photos.items()):
        if mode == usual:
            continue
        labels = {record.label for record in odd}
        telling = len(odd) >= _TELLING and len(labels) == 1
        where = f", all in class {odd[0].label}" if telling else ""
        evidence = f"{len(odd)} photos, such as {odd[0].path}, have colour mode {mode}{where}; most have {usual}."
        remedy = "nothing; they become RGB. If one class has most of them, save all the same way."
        files = tuple(sorted(record.path for record in odd))
        severity: Severity = "warning" if telling else "info"
        yield Finding(kind="odd_mode", severity=severity, files=files, evidence=evidence, remedy=remedy)
