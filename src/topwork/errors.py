"""The exception tree. Knows nothing else of topwork.

    TopworkError            something the user can change; exit code 2
    ├── DataError           the photos, a folder, a manifest
    │   ├── DecodeError     one file that cannot become a picture
    │   └── InputError      values given in Python; also a ValueError
    ├── RecipeError         a choice that does not exist or does not fit
    ├── WeightsError        pretrained weights missing, damaged or of another network
    ├── BundleError         a model folder that must not be trusted
    ├── ExportError         a model that cannot be written in another format
    ├── RunError            a run folder that is missing, foreign or unfinished
    ├── EngineError         the inference engine cannot do what was asked
    ├── ResourceError       not enough disk, memory or time
    └── CheckFailed         the work is done and the answer is "no"; exit code 1

One place prints them (`topwork.cli.app`), as one sentence and one line that starts with `fix:`.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CheckFailed",
    "DataError",
    "DecodeError",
    "EngineError",
    "ExportError",
    "InputError",
    "RecipeError",
    "ResourceError",
    "RunError",
    "TopworkError",
    "WeightsError",
]


class TopworkError(Exception):
    """What is wrong with which value, and what to do about it.

    Args:
        what: one sentence with the offending value in it.
        fix: one imperative clause; what the user can do now.
    """

    exit_code = 2

    def __init__(self, what: str, *, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\nfix: {self.fix}"


class DataError(TopworkError):
    """The photos, a folder of them, or a manifest cannot be used as they are."""


class DecodeError(DataError):
    """One file cannot become a picture.

    Args:
        what: one sentence with the reason.
        fix: what to do with the file.
        kind: a short stable name for the reason, e.g. `truncated`, `not-an-image`, `too-many-pixels`.
    """

    def __init__(self, what: str, *, fix: str, kind: str) -> None:
        super().__init__(what, fix=fix)
        self.kind = kind


class InputError(DataError, ValueError):
    """Photos or labels that were given as Python values cannot be used; callers like scikit-learn expect ValueError."""


class RecipeError(TopworkError):
    """A recipe asks for something that does not exist or does not fit together."""


class WeightsError(TopworkError):
    """Pretrained weights are missing, damaged, or belong to another network."""


class BundleError(TopworkError):
    """A model folder is not a topwork bundle, or must not be trusted."""


class ExportError(TopworkError):
    """A model cannot be written in the format that was asked for."""


class RunError(TopworkError):
    """A run folder is missing, holds something else, or was never finished."""


class EngineError(TopworkError):
    """The inference engine cannot do what was explicitly asked of it."""


class ResourceError(TopworkError):
    """The machine lacks the disk, the memory or the time that the work needs."""


class CheckFailed(TopworkError):
    """A check ran to its end and found something that must be fixed."""

    exit_code = 1
