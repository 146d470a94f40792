"""The model's page: metadata that the hub's own library reads back, figures as in the evaluation, no foreign markup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard as HubCard
from markdown_it import MarkdownIt

from topwork.exports.card import BackboneCard, InputCard, ModelCard, WeightsCard
from topwork.recipe import HeadChoice, Recipe
from topwork.reports.inputs import ReportInputs
from topwork.reports.readme import model_readme

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "a | b",
    "---\nlicense: mit",
    "[click](https://evil.example)",
    "https://evil.example `x`",
    "- yes: {no}",
    "caf\udce9",
)


def card_of(inputs: ReportInputs, **backbone: Any) -> ModelCard:
    named = {"name": "efficientnet_lite0", "kind": "packaged", "source": "pip package x 1", "licence": "Apache-2.0"}
    return ModelCard(
        topwork="0.1.0",
        classes=tuple(name.encode("utf-8", "replace").decode() for name in inputs.classes),
        backbone=BackboneCard(padding="same", bn_eps=1e-3, digest="ab" * 32, **{**named, **backbone}),
        input=InputCard(size=224, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop=0.875),
        head=HeadChoice(),
        temperature=0.5,
        precision="bf16",
        weights=WeightsCard(sha256="cd" * 32, bytes=100),
        plan="freeze 6 of 9 blocks (stem..blocks.4), train 3",
        recipe={},
        provenance={},
    )


def tables(page: str) -> list[list[list[str]]]:
    """Every table as rows of cells, as a Markdown reader shows them."""
    found: list[list[list[str]]] = []
    inside = False
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(page):
        inside = token.type != "table_close" and (inside or token.type == "table_open")
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and inside:
            found[-1][-1].append("".join(child.content for child in token.children or ()))
    return found


def test_the_hubs_library_reads_it(inputs: ReportInputs) -> None:
    read = HubCard(model_readme(inputs, card_of(inputs)))
    data = read.data
    assert (data.library_name, data.pipeline_tag, data.license) == ("topwork", "image-classification", None)
    assert "efficientnet_lite0" in data.tags
    assert data.base_model is None  # the packaged weights have no repository
    assert data.model_name == "first"
    results = {found.metric_name: found for found in data.eval_results}
    for name, key in {"Accuracy": "accuracy", "Macro F1": "macro_f1"}.items():
        interval = inputs.scores[key]
        assert results[name].metric_value == pytest.approx(interval["value"], abs=1e-6)
        assert results[name].metric_args == {end: interval[end] for end in ("low", "high", "n")}
    assert {(found.dataset_name, found.dataset_split) for found in data.eval_results} == {("flowers", "test")}
    assert HubCard(str(read)).data.to_dict() == data.to_dict()


def test_weights_of_the_hub_are_the_base_model(inputs: ReportInputs) -> None:
    card = card_of(inputs, kind="hub", source="Hugging Face hub timm/resnet50.a1_in1k", licence=None)
    page = model_readme(inputs, card)
    assert HubCard(page).data.base_model == "timm/resnet50.a1_in1k"
    assert "Licence of the pretrained backbone: not known." in page


def test_every_figure_stands_with_its_interval_and_n(inputs: ReportInputs) -> None:
    measures, classes, _ = tables(model_readme(inputs, card_of(inputs)))
    shown = {row[0]: row[1:] for row in measures[1:]}
    accuracy = inputs.scores["accuracy"]
    ends = f"[{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    assert shown["accuracy"] == [f"{accuracy['value']:.3f}", ends, f"{accuracy['n']}"]
    assert len(shown) == 9
    assert [row[0] for row in classes[1:]] == list(inputs.classes)
    row = inputs.scores["per_class"]["roses"]["recall"]
    (roses,) = [cells for cells in classes if cells[0] == "roses"]
    assert roses[4] == f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def test_it_says_what_the_model_cannot_do(inputs: ReportInputs) -> None:
    page = model_readme(inputs, card_of(inputs))
    assert "It knows no other class." in page
    assert "baseline" not in page
    shortcut = {"kind": "shortcut", "severity": "warning", "files": [], "evidence": "The *border* gives roses away."}
    page = model_readme(ReportInputs(**{**vars(inputs), "findings": [shortcut]}), card_of(inputs))
    assert "- It may use a shortcut: The \\*border\\* gives roses away." in page


def test_no_name_becomes_markup_or_metadata(inputs_of: Callable[..., ReportInputs]) -> None:
    data = {"data": {"name": "x\nlicense: mit", "root": "/home/somebody/photos"}}
    inputs = inputs_of(classes=HOSTILE, name="a: [b]\n---\n# c", provenance=data, each=12)
    page = model_readme(inputs, card_of(inputs))
    page.encode("utf-8")
    front = yaml.safe_load(page.split("---\n")[1])
    assert front == HubCard(page).data.to_dict()
    assert "license" not in front
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "x\\x0alicense: mit"
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(page.split("---\n", 2)[2])
    inline = [child.type for token in tokens for child in token.children or ()]
    assert not {"html_inline", "link_open", "image"} & set(inline)
    assert "html_block" not in {token.type for token in tokens}
    assert sum(token.type == "heading_open" for token in tokens) == 8
    classes = tables(page)[1]
    assert {len(row) for row in classes} == {6}
    assert [row[0] for row in classes[1:3]] == list(HOSTILE[:2])


def test_no_path_of_the_user_is_told(inputs: ReportInputs) -> None:
    recipe = Recipe().replace({"backbone.weights": "/home/somebody/weights.safetensors"})
    page = model_readme(ReportInputs(**{**vars(inputs), "recipe": recipe}), card_of(inputs))
    assert "/home" not in page
    assert str(Path("/photos")) not in page
