"""`ImageClassifier`: a recipe as a scikit-learn classifier. The only module that knows scikit-learn's conventions.

It runs the stages of `fit` on photos that are given as values, without a test part: whoever calls it holds that back.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from topwork.data.given import evaluation_views, pictures_of, scan_given
from topwork.data.grouping import grouped
from topwork.data.split import split
from topwork.errors import InputError
from topwork.exports.bundle import Bundle, BundleFacts, read_bundle, write_bundle
from topwork.exports.predictor import Predictor
from topwork.progress import Progress, silent
from topwork.recipe import Recipe, load_recipe, split_shares
from topwork.recipe_text import parse_setting
from topwork.workflow.fit_manifest import fit_manifest
from topwork.workflow.outcome import provenance_of, write_model
from topwork.workflow.provenance import now
from topwork.workflow.rundir import RunDir

__all__ = ["ImageClassifier"]


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A recipe as a scikit-learn classifier.

    X is a list, array or Series of file names, an array (N,H,W,3) uint8, or a list of arrays (H,W,3) uint8. y are
    strings or integers. Of the photos given to `fit` a validation part is carved out, on which epochs, strengths and
    the temperature are chosen; the recipe's shares of train and validation say how large it is, and duplicates stay
    together. There is no test part. Features of photos that were seen before come from the activation cache, so the
    next candidate of a search costs only what is trained above the frozen trunk.

    Args:
        recipe: the name of a packaged recipe, a TOML file, or a `Recipe`.
        settings: `KEY=VALUE` changes of the recipe, e.g. `("phase2.epochs=4",)`.
        seed: of the validation part and all that is drawn in training, >= 0; replaces the recipe's `data.seed`.
        progress: told how far a fit is; None is silent. Clones share it; copies and pickles are silent, since what
            stands behind it (a terminal, a lock) cannot be copied.

    Attributes:
        classes_: (K,) the labels, sorted, with y's dtype.
        model_: the `Bundle`; `topwork.explain(model_, ...)` takes it as it is.
        recipe_: the `Recipe` that was carried out.

    Example:
        >>> ImageClassifier("probe", seed=1)
        ImageClassifier(recipe='probe', seed=1)
    """

    def __init__(
        self,
        recipe: str | Path | Recipe = "default",
        *,
        settings: Sequence[str] = (),
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.recipe = recipe
        self.settings = settings
        self.seed = seed
        self.progress = progress

    def fit(self, X: Any, y: Any) -> ImageClassifier:
        """Train; forgets an earlier fit.

        Args:
            X: N photos.
            y: (N,) labels, at least two different ones.

        Raises:
            InputError: if photos or labels are of no use; it is a ValueError.
            DecodeError: if a photo cannot be read.
            TopworkError: if the recipe, the weights or the machine do not allow it.
        """
        pictures = pictures_of(X)
        classes, names = _labels(y, photos=len(pictures))
        recipe = self._chosen()
        progress = self.progress or silent
        with tempfile.TemporaryDirectory(prefix="topwork-") as home:
            found = grouped(scan_given(pictures, names, folder=Path(home)), by=recipe.data.group_by)
            manifest = split(found, shares=_shares_without_test(recipe), seed=recipe.data.seed)
            outcome = fit_manifest(recipe, manifest, progress=progress)
            provenance = provenance_of(outcome, found, manifest=manifest)
            run = RunDir(Path(home) / "run")
            write_model(run, outcome, provenance=provenance | {"finished": now(), "recipe_name": str(self._name)})
            self.model_: Bundle = read_bundle(run.model_folder)  # what predicts is what would be shipped
        self.classes_: npt.NDArray[Any] = classes
        self.recipe_: Recipe = outcome.recipe
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Calibrated probabilities (N,K), columns as `classes_`; each row sums to 1.

        Raises:
            NotFittedError: before `fit`.
            InputError, DecodeError: as `fit`.
        """
        check_is_fitted(self)
        pictures = pictures_of(X)
        engine: Literal["auto", "torch"] = "torch" if self.recipe_.engine.trunk == "torch" else "auto"
        predictor = Predictor.load(self.model_, engine=engine, photos=len(pictures), progress=self.progress or silent)
        views = evaluation_views(pictures, self.model_.spec)
        found = np.concatenate([predictor.probabilities(batch) for batch in views])
        columns = [self.model_.classes.index(str(label)) for label in self.classes_]  # the bundle's are sorted as text
        return np.asarray(found[:, columns], dtype=np.float64)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The most probable label of each photo, (N,), with the dtype of `classes_`.

        Raises:
            NotFittedError, InputError, DecodeError: as `predict_proba`.
        """
        check_is_fitted(self)
        answers: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return answers

    def save(self, folder: str | Path) -> Path:
        """Write the model as a bundle, for `topwork predict`, `explain` and other programs; no pickle.

        Raises:
            NotFittedError: before `fit`.
            BundleError: if the folder holds other things.
        """
        check_is_fitted(self)
        card = self.model_.card
        names = ("classes", "head", "temperature", "precision", "plan", "recipe", "provenance")
        facts = BundleFacts(**{name: getattr(card, name) for name in names})
        write_bundle(Path(folder), self.model_.classifier, facts=facts)
        return Path(folder)

    def __sklearn_clone__(self) -> ImageClassifier:
        # scikit-learn would copy every parameter, and a lock cannot be copied
        clone: ImageClassifier = super(ImageClassifier, copy.copy(self)).__sklearn_clone__()
        clone.progress = self.progress
        return clone

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "progress": None}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # photos are files or pictures, never rows of numbers
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        return tags

    @property
    def _name(self) -> str:
        return "" if isinstance(self.recipe, Recipe) else str(self.recipe)

    def _chosen(self) -> Recipe:
        settings = tuple(self.settings)
        if isinstance(self.recipe, Recipe):
            chosen = self.recipe.replace(dict(map(parse_setting, settings)))
        else:
            chosen = load_recipe(self.recipe, settings)
        return chosen.replace({"data.seed": self.seed})


def _labels(y: Any, *, photos: int) -> tuple[npt.NDArray[Any], list[str]]:
    """The different labels, sorted, and the label of every photo as text."""
    fix = "give one string or integer for each photo."
    if y is None:
        raise InputError("An ImageClassifier requires y to be passed, but the target y is None.", fix=fix)
    labels = column_or_1d(y, warn=True)
    if len(labels) != photos:
        raise InputError(f"The labels y must be as many as the photos, {photos}. Got {len(labels)}.", fix=fix)
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y", estimator_name="ImageClassifier")
    check_classification_targets(labels)
    classes = np.unique(labels)
    if len(classes) < 2:
        what = f"The labels y must hold at least two classes. Got only one class, {classes[0]!s}."
        raise InputError(what, fix="add photos of another class.")
    return classes, [str(label) for label in labels]


def _shares_without_test(recipe: Recipe) -> tuple[float, float, float]:
    train, val, _ = split_shares(recipe.data.split)
    return train / (train + val), val / (train + val), 0.0
