# %% [markdown]
# # Flowers, from photos to a verdict
#
# Check the photos, train a classifier, read its numbers, look at its mistakes, use it, and find out which of two
# recipes is really better. No GPU is needed. `flowers.py` and `flowers.ipynb` are the same story: edit the script, then
# run `python examples/as_notebook.py`.
#
# Without an argument the flowers are drawn by the computer, so the numbers only show that everything works. For real
# photos:
#
# - script: `python examples/flowers.py photos/`, a folder with one folder a class;
# - notebook: set `photos` below, or the variable `TOPWORK_TEST_DATA` to a folder that holds `flowers/`.

# %%
import csv
import os
import sys
from pathlib import Path

from matplotlib.figure import Figure
from sklearn.model_selection import cross_val_score

import topwork

in_notebook = "ipykernel" in sys.modules
photos = "drawn-flowers"
if "TOPWORK_TEST_DATA" in os.environ:
    photos = str(Path(os.environ["TOPWORK_TEST_DATA"]) / "flowers")
if len(sys.argv) > 1 and not in_notebook:
    photos = sys.argv[1]
results = Path("runs/flowers-example")


# %% [markdown]
# ## 1. Are the photos all right?
#
# A model can be no better than its labels, so look at the photos first. `check` opens every file, looks for copies, and
# lets a pretrained network say which labels look wrong. A finding is an `error` (mend it), a `warning` (look at it) or
# an `info`.

# %%
checked = topwork.check(photos, recipe="kernel")
records, root = checked.scan.records, checked.scan.root
print(f"{len(records)} photos of {', '.join(checked.scan.classes)}")
for finding in checked.findings[:8]:
    print(f"{finding.severity}: {finding.evidence} To do: {finding.remedy}")
for suspect in checked.suspects[:3]:  # the labels that look most wrong; a person should decide
    name, other = (checked.scan.classes[number] for number in (suspect.label, suspect.suggested))
    print(f"{records[suspect.row].path}: p({name}) = {suspect.p_label:.2f}, p({other}) = {suspect.p_suggested:.2f}")

# %% [markdown]
# ## 2. Train
#
# The recipe `kernel` keeps a pretrained network as it is and trains only what stands on top: a minute or less. The
# recipe `default` also trains the last blocks of the network, which takes longer and is often a little better.
#
# Photos are divided into three parts. The model learns from *train*, choices are made on *val*, and *test* is looked at
# once, at the end. Copies of a photo stay in one part; otherwise the model would be asked what it was told.

# %%
run = topwork.fit(photos, recipe="kernel", to=results / "run", settings=["data.split=60/20/20"])
print(run.evaluation.headline())
print("report:", run.report)

# %% [markdown]
# ## 3. Read the numbers
#
# Each number stands with a 95 % interval and with n, the photos behind it. The test part is a sample: other photos
# would have given another number, and the interval says how different it might be. Four times the photos make it half
# as wide.
#
# - *accuracy*: the share of photos that got the right class;
# - *macro-F1*: the mean over classes of F1, so that a rare class counts as much as a common one;
# - *recall* of a class: the share of its photos that were found; *precision*: the share of right ones among those given
# it;
# - *ECE*: how far the stated probabilities are from what comes true, 0 is best.

# %%
scores = run.evaluation.splits["test"]
for name in ("accuracy", "macro_f1", "ece"):
    print(f"{name:10}", getattr(scores, name))
for label, each in scores.per_class.items():
    print(f"{label:10} recall {each.recall}  precision {each.precision}")
for true, given, count in scores.most_confused[:3]:
    print(f"{count} of {true} taken for {given}")

# %% [markdown]
# ## 4. Look at the mistakes
#
# Here are the test photos whose true class got the lowest probability: the mistakes first, then what was nearly one.
# Often it is the label that is wrong. The heatmap (Grad-CAM) marks what the network looked at when it chose. It says
# *where*, not *why*: `topwork explain RUN` tests how far it can be trusted.

# %%
with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as table:
    tested = [row for row in csv.DictReader(table) if row["split"] == "test"]
tested.sort(key=lambda row: float(row[f"p_{row['label']}"]))
hardest = tested[:4]
explained = topwork.explain(run.path, [root / row["path"] for row in hardest])

figure = Figure(figsize=(2.3 * len(hardest), 4.9), layout="constrained")
panels = figure.subplots(2, len(hardest), squeeze=False)
for column, (row, seen) in enumerate(zip(hardest, explained.photos, strict=True)):
    panels[0, column].set_title(f"{row['label']}\nsaid {seen.predicted} {seen.probabilities[seen.predicted]:.0%}")
    for panel in panels[:, column]:
        panel.imshow(seen.view)
        panel.axis("off")
    panels[1, column].imshow(seen.heatmap, cmap="inferno", alpha=0.55)
figure.savefig(results / "mistakes.png", dpi=70)

if in_notebook:
    from IPython.display import Image, display

    display(Image(filename=results / "mistakes.png"))
else:
    print("mistakes:", results / "mistakes.png")

# %% [markdown]
# ## 5. Use it
#
# `run.model` is the folder to ship: weights and JSON, no pickle. It knows its classes only. Of a photo that shows none
# of them it still names one, so watch the probability.

# %%
for prediction in topwork.predict(run.model, [root / row["path"] for row in tested[-3:]]):
    assert prediction.predicted is not None, prediction.error
    print(f"{prediction.path.name}: {prediction.predicted}, p = {prediction.probabilities[prediction.predicted]:.2f}")

# %% [markdown]
# ## 6. Which recipe is better, really?
#
# Two accuracies that differ are not yet a difference: with other photos the order might turn round. `compare` judges
# every photo once by a model that has not seen it (cross-validation), with both recipes on the same photos. What counts
# is the photos that only one of the two gets right. If that could be chance, the verdict is "no difference beyond seed
# noise".
#
# Baselines always stand beside the recipes. A model that does not beat the colours of the photos has not learned
# flowers.

# %%
comparison = topwork.compare(photos, ["probe", "kernel"], to=results / "compare", folds=3, seeds=1)
for name, scored in comparison.ranking.scores.items():
    print(f"{name:18} accuracy {scored.accuracy}")
for contrast in comparison.ranking.contrasts[:1]:
    print(
        f"{contrast.model} against {contrast.reference}: {contrast.accuracy}, p = {contrast.p:.3f}: {contrast.verdict}"
    )
for sentence in comparison.verdict:
    print(sentence)
print("page:", comparison.page)

# %% [markdown]
# ## 7. In scikit-learn
#
# `ImageClassifier` is a recipe as a scikit-learn classifier: it goes into `cross_val_score`, `GridSearchCV` and
# pipelines. The network has seen these photos already, so its features come from a cache.
#
# scikit-learn does not know that two files may be copies of one photo, or show the same plant. `compare` keeps copies
# together; here you would have to pass `groups`.

# %%
paths = [str(root / record.path) for record in records]
labels = [record.label for record in records]
accuracies = cross_val_score(topwork.ImageClassifier("probe"), paths, labels, cv=3)
print("accuracy of each fold:", ", ".join(f"{accuracy:.3f}" for accuracy in accuracies))

# %% [markdown]
# ## Next
#
# Open the report and the page of the comparison: each is one file. Then take `default` instead of `kernel`, or photos
# of your own. `docs/guides/` has a page for each step.
