"""`check` as a whole: with a tiny network on drawn flowers, and with the real one on real photos."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

import topwork
from topwork.cli.app import run
from topwork.data.duplicates import connect
from topwork.data.lookalikes import look_alikes
from topwork.data.neighbours import unit_features
from topwork.errors import DataError
from topwork.evaluation.label_errors import label_suspects, out_of_fold
from topwork.progress import silent
from topwork.recipe import load_recipe
from topwork.workflow import check as check_module
from topwork.workflow.check import Checked, check, write_page
from topwork.workflow.features import clean_features

_Capture = pytest.CaptureFixture[str]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(drawn_photos: Path, tmp_path: Path, own_cache: None) -> Path:
    return Path(shutil.copytree(drawn_photos, tmp_path / "photos"))


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of a network that never errs: they follow from the species in the file's name."""

    def features(found: Any, **_: Any) -> np.ndarray:
        species = [Path(record.path).name.split("-")[0] for record in found.records]
        rows = np.array([[name == other for other in sorted(set(species))] for name in species], np.float32)
        return rows + np.random.default_rng(0).uniform(0, 0.02, (len(rows), rows.shape[1])).astype(np.float32)

    monkeypatch.setattr(check_module, "clean_features", features)


def test_fit_finds_the_features_that_a_check_left_and_writes_down_its_quick_part(
    photos: Path, tmp_path: Path, tiny: tuple[str, ...], lines: Any
) -> None:
    Image.new("RGB", (96, 96), (9, 9, 9)).save(photos / "rose" / "zz-black.jpg")
    shutil.copy(sorted((photos / "rose").iterdir())[0], photos / "tulip" / "zz.jpg")
    recipe = load_recipe("default", tiny)
    assert len(check(photos, recipe=recipe, progress=lines).scan.records) == 52
    made = topwork.fit(photos, recipe=recipe, to=tmp_path / "run", progress=lines)
    assert "51 from the cache" in next(line for line in lines.said if line.startswith("Trunk: "))  # 51 contents
    kinds = [finding["kind"] for finding in json.loads((made.path / "findings.json").read_text())]
    assert kinds == ["label_conflict", "near_duplicate", "blank"]


def test_a_wrong_label_is_named_and_fixed_in_a_manifest(
    photos: Path, tmp_path: Path, by_name: None, capsys: _Capture
) -> None:
    moved = sorted((photos / "rose").iterdir())[4]
    moved.rename(photos / "tulip" / moved.name)
    fixed = tmp_path / "fixed.csv"
    before = {path: path.read_bytes() for path in photos.rglob("*.jpg")}
    assert run(["check", str(photos), "--fix", str(fixed), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    first = said["label_suspects"][0]
    assert (first["path"], first["label"], first["suggested"]) == (f"tulip/{moved.name}", "tulip", "rose")
    assert first["p_label"] < 0.2 < 0.8 < first["p_suggested"]
    (finding,) = [finding for finding in said["findings"] if finding["kind"] == "label_suspect"]
    assert finding["files"] == [f"tulip/{moved.name}"]
    with fixed.open(newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    assert (rows[f"tulip/{moved.name}"]["label"], rows[f"tulip/{moved.name}"]["was"]) == ("rose", "tulip")
    assert sum(row["was"] != "" for row in rows.values()) == 1
    assert {path: path.read_bytes() for path in photos.rglob("*.jpg")} == before
    assert not [f for f in check(fixed).findings if f.kind == "label_suspect"]


def test_a_quarantine_is_honoured_by_later_verbs(photos: Path, tmp_path: Path, capsys: _Capture) -> None:
    shutil.copy(sorted((photos / "rose").iterdir())[0], photos / "tulip" / "zz.jpg")
    listed = tmp_path / "left-out.csv"
    words = ["check", str(photos), "--quick", "--quarantine", str(listed)]
    assert run(words) == 1
    assert "2 photos added" in capsys.readouterr().err
    assert run(words) == 0
    assert run(["check", str(photos), "--quick"]) == 0
    assert run(["split", str(photos), "--to", str(tmp_path / "parts")]) == 0
    manifest = (tmp_path / "parts" / "manifest.csv").read_text()
    assert "zz.jpg" not in manifest
    assert len(manifest.splitlines()) == 50
    listed.unlink()
    assert run(["check", str(photos), "--quick"]) == 1


class _Seen(Exception):
    """Carries what a verb read out of it, before it does any work."""


@pytest.mark.parametrize("verb", ["fit", "split", "lr_find", "compare", "evaluate", "check"])
def test_every_verb_that_reads_photos_honours_it(
    verb: str, photos: Path, tmp_path: Path, tiny_run: topwork.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))[7]
    (tmp_path / "q.csv").write_text(f"path,reason\n{left_out},my cat\n")
    check(photos, quick=True, quarantine=tmp_path / "q.csv")

    def seen(found: Any, *_: Any, **__: Any) -> Any:
        raise _Seen({record.path for record in found.records})

    calls: dict[str, tuple[str, Callable[[], Any]]] = {
        "fit": ("fit.grouped", lambda: topwork.fit(photos, to=tmp_path / "run")),
        "split": ("split.grouped", lambda: topwork.split(photos, to=tmp_path / "parts")),
        "lr_find": ("lr_find.grouped", lambda: topwork.lr_find(photos)),
        "compare": ("compare.grouped", lambda: topwork.compare(photos, ["probe", "default"], to=tmp_path / "compared")),
        "evaluate": ("evaluate._predicted", lambda: topwork.evaluate(tiny_run.path, data=photos)),
        "check": ("check.audit", lambda: topwork.check(photos, quick=True)),
    }
    target, call = calls[verb]
    wrapped = (lambda _, found, **__: seen(found)) if verb == "evaluate" else seen
    monkeypatch.setattr(f"topwork.workflow.{target}", wrapped)
    with pytest.raises(_Seen) as caught:
        call()
    (paths,) = caught.value.args
    assert len(paths) == 49
    assert left_out not in paths


def test_a_quick_check_runs_no_network_and_judges_no_label(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(check_module, "clean_features", None)
    found = check(photos, quick=True)
    assert (found.findings, found.suspects, found.passed) == ((), (), True)
    with pytest.raises(DataError, match="needs the whole check"):
        check(photos, quick=True, fix=tmp_path / "fixed.csv")


def test_a_quick_check_loads_no_network(drawn_photos: Path, own_cache: None) -> None:
    """Torch alone takes longer to load than a thousand photos take to look at."""
    program = (
        "import sys\nfrom topwork.cli.app import run\n"
        "assert run(['check', sys.argv[1], '--quick', '--json']) == 0\n"
        "assert not {'torch', 'timm', 'openvino'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(drawn_photos)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_shows_findings_and_suspects_and_hides_nothing(photos: Path, tmp_path: Path, by_name: None) -> None:
    source = sorted((photos / "rose").iterdir())[0]
    shutil.copy(source, photos / "tulip" / "rose-<b>&.jpg")
    (photos / "tulip" / "tulip-cut.jpg").write_bytes(source.read_bytes()[:300])
    write_page(check(photos), tmp_path / "check.html")
    page = (tmp_path / "check.html").read_text()
    assert page.count("Keep it under the right label, delete the others.") == 2  # the error, and the look-alike
    assert "1 finding must be fixed" in page
    assert "One picture, two labels" in page
    assert "rose-&lt;b&gt;&amp;.jpg" in page
    assert "<b>&" not in page
    assert "tulip/tulip-cut.jpg" in page
    assert page.count("data:image/jpeg") >= 20
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


# --- real photos ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checked(flowers: Path) -> Checked:
    return check(flowers, recipe="probe")


def _pairs(text: Path) -> list[frozenset[str]]:
    lines = [line.split("\t") for line in text.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [frozenset(field.strip() for field in line) for line in lines]


@pytest.mark.slow
def test_confirmed_near_duplicates_of_the_flowers(checked: Checked, flowers: Path) -> None:
    """Also what the rule was tuned on: this holds it, and does not prove it."""
    confirmed = _pairs(flowers.parent / "flowers_near_duplicates.txt")
    series = _pairs(flowers.parent / "flowers_groups.txt")
    same = {frozenset(f.files) for f in checked.findings if f.kind == "label_conflict"}
    assert same == {frozenset(f"{label}/15922772266_1167a06620.jpg" for label in ("roses", "tulips"))}
    groups = [set(f.files) for f in checked.findings if f.kind == "near_duplicate"]
    found = [pair for pair in confirmed if any(pair <= group for group in groups)]
    assert len(found) >= 0.9 * len(confirmed)
    told = {frozenset(pair) for group in groups for pair in itertools.combinations(sorted(group), 2)}
    outside = [pair for pair in told - set(confirmed) if not any(pair <= group for group in series)]
    assert len(outside) <= 15  # the issue allows 30
    inside = [f.files for f in checked.findings if f.kind == "series"]
    assert sum(any(set(files) <= group for group in series) for files in inside) >= 0.9 * len(inside)


@pytest.mark.slow
def test_wrong_labels_of_the_flowers(checked: Checked, flowers: Path) -> None:
    lines = (flowers.parent / "flowers_label_suspects.txt").read_text(encoding="utf-8").splitlines()
    named = {line.split("\t")[0] for line in lines if not line.startswith("#")}
    paths = [checked.scan.records[suspect.row].path for suspect in checked.suspects]
    assert len(named & set(paths[: round(0.05 * len(paths))])) >= 0.6 * len(named)
    (finding,) = [finding for finding in checked.findings if finding.kind == "label_suspect"]
    assert 5 <= len(finding.files) <= 60


@pytest.mark.slow
def test_planted_flips_among_the_flowers(checked: Checked) -> None:
    """Precision at k of the ranking, next to cleanlab's two rankings of the same probabilities."""
    rank = pytest.importorskip("cleanlab.rank", reason="needs cleanlab, of the dev extra")
    found = checked.scan
    labels = np.array([found.classes.index(str(record.label)) for record in found.records])
    rng = np.random.default_rng(1)
    rows = rng.choice(len(labels), round(0.05 * len(labels)), replace=False)
    wrong = labels.copy()
    wrong[rows] = (labels[rows] + rng.integers(1, len(found.classes), len(rows))) % len(found.classes)
    features = clean_features(found, recipe=load_recipe("probe"), progress=silent)
    units = unit_features(features)
    alike = [(pair.first, pair.second) for pair in look_alikes(found.records, units=units)]
    groups = np.array(connect(len(labels), alike))
    ours = [suspect.row for suspect in label_suspects(features, wrong, groups=groups)]
    judged = out_of_fold(units, wrong, groups=groups)

    def precision(ranking: Any) -> float:
        return float(np.isin(np.asarray(ranking)[: len(rows)], rows).mean())

    theirs = [
        precision(np.argsort(rank.get_label_quality_scores(wrong, judged, method=method)))
        for method in ("self_confidence", "normalized_margin")
    ]
    # About 3 % of the labels were wrong before; they take places that count against the ranking.
    assert precision(ours) >= 0.8
    assert precision(ours) >= max(theirs) - 0.05


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": lambda image: image,
    "smaller": lambda image: image.resize((image.width * 2 // 3, image.height * 2 // 3)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "saturated": lambda image: ImageEnhance.Color(image).enhance(1.7),
    "cropped": lambda image: image.crop((6, 4, image.width - 4, image.height - 6)),
    "turned": lambda image: image.rotate(3, fillcolor=(128, 128, 128)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "soft": lambda image: image.filter(ImageFilter.GaussianBlur(1.2)),
    "marked": lambda image: (ImageDraw.Draw(image).text((5, 170), "(c) someone", fill=(255, 255, 255)), image)[1],
}


@pytest.mark.slow
def test_planted_edits_among_drawn_flowers(tmp_path: Path) -> None:
    """Precision and recall of look-alikes, and nothing at all among the clean ones."""
    from topwork.data.drawn import write_drawn_flowers

    folder = tmp_path / "drawn"
    write_drawn_flowers(folder, n_per_class=24, size=192, seed=3, masks=False)
    clean = check(folder, recipe="probe")
    assert [finding.kind for finding in clean.findings if finding.kind != "label_suspect"] == []
    planted = set()
    for number, (source, (name, edit)) in enumerate(
        zip(sorted(folder.rglob("*.jpg"))[::3], itertools.cycle(EDITS.items()), strict=False)
    ):
        target = source.with_name(f"{source.stem}-{name}.jpg")
        with Image.open(source) as image:
            edit(image.convert("RGB")).save(target, quality=70)
        planted.add(frozenset((source.relative_to(folder).as_posix(), target.relative_to(folder).as_posix())))
        assert number < 50
    groups = [f.files for f in check(folder, recipe="probe").findings if f.kind == "near_duplicate"]
    told = {frozenset(pair) for files in groups for pair in itertools.combinations(files, 2)}
    assert len(told & planted) >= 0.9 * len(told)
    assert len(told & planted) >= 0.9 * len(planted)
