"""topwork: a folder of labelled photos in, a measured image classifier out.

Every verb of the command line is a function here. Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topwork.errors import TopworkError as TopworkError
    from topwork.recipe import Recipe as Recipe
    from topwork.recipe import load_recipe as load_recipe
    from topwork.workflow.check import check as check
    from topwork.workflow.compare import Comparison as Comparison
    from topwork.workflow.compare import compare as compare
    from topwork.workflow.estimator import ImageClassifier as ImageClassifier
    from topwork.workflow.evaluate import evaluate as evaluate
    from topwork.workflow.explain import Explained as Explained
    from topwork.workflow.explain import explain as explain
    from topwork.workflow.export import Exported as Exported
    from topwork.workflow.export import export as export
    from topwork.workflow.fetch import fetch as fetch
    from topwork.workflow.fit import Run as Run
    from topwork.workflow.fit import fit as fit
    from topwork.workflow.lr_find import LrSearch as LrSearch
    from topwork.workflow.lr_find import lr_find as lr_find
    from topwork.workflow.predict import predict as predict
    from topwork.workflow.report import report as report
    from topwork.workflow.split import SplitChoice as SplitChoice
    from topwork.workflow.split import split as split

__version__ = "0.1.0"

# Public name -> the module it lives in. No package or module of topwork may carry one of these names.
_HOMES = {
    "Comparison": "topwork.workflow.compare",
    "Explained": "topwork.workflow.explain",
    "Exported": "topwork.workflow.export",
    "ImageClassifier": "topwork.workflow.estimator",
    "LrSearch": "topwork.workflow.lr_find",
    "Recipe": "topwork.recipe",
    "Run": "topwork.workflow.fit",
    "SplitChoice": "topwork.workflow.split",
    "TopworkError": "topwork.errors",
    "check": "topwork.workflow.check",
    "compare": "topwork.workflow.compare",
    "evaluate": "topwork.workflow.evaluate",
    "explain": "topwork.workflow.explain",
    "export": "topwork.workflow.export",
    "fetch": "topwork.workflow.fetch",
    "fit": "topwork.workflow.fit",
    "load_recipe": "topwork.recipe",
    "lr_find": "topwork.workflow.lr_find",
    "predict": "topwork.workflow.predict",
    "report": "topwork.workflow.report",
    "split": "topwork.workflow.split",
}

__all__ = [
    "Comparison",
    "Explained",
    "Exported",
    "ImageClassifier",
    "LrSearch",
    "Recipe",
    "Run",
    "SplitChoice",
    "TopworkError",
    "check",
    "compare",
    "evaluate",
    "explain",
    "export",
    "fetch",
    "fit",
    "load_recipe",
    "lr_find",
    "predict",
    "report",
    "split",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'topwork' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next use costs nothing
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
