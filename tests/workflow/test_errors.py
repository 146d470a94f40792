"""What a user can get wrong with `fit`: exit 2, one sentence, what to do, and nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from topwork.cli.app import run


def _one_class(photos: Path) -> list[str]:
    shutil.copytree(photos / "rose", Path("photos/rose"))
    return ["photos"]


def _empty(_: Path) -> list[str]:
    Path("photos").mkdir()
    return ["photos"]


def _empty_classes(_: Path) -> list[str]:
    for name in ("rose", "tulip"):
        (Path("photos") / name).mkdir(parents=True)
    return ["photos"]


def _missing(_: Path) -> list[str]:
    return ["./no-such-photos"]


def _texts(_: Path) -> list[str]:
    for name in ("rose", "tulip"):
        (Path("photos") / name).mkdir(parents=True)
        for number in range(3):
            (Path("photos") / name / f"{number}.txt").write_text("no photo")
    return ["photos"]


def _texts_named_jpg(_: Path) -> list[str]:
    for name in ("rose", "tulip"):
        (Path("photos") / name).mkdir(parents=True)
        for number in range(3):
            (Path("photos") / name / f"{number}.jpg").write_text("no photo")
    return ["photos"]


def _file(photos: Path) -> list[str]:
    shutil.copy(next((photos / "rose").iterdir()), "photo.jpg")
    return ["photo.jpg"]


def _text_file(_: Path) -> list[str]:
    Path("notes.txt").write_text("no manifest")
    return ["notes.txt"]


def _with(*words: str) -> Callable[[Path], list[str]]:
    return lambda photos: [str(photos), *words]


def _foreign_target(photos: Path) -> list[str]:
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("years of work")
    return [str(photos), "--to", "thesis"]


_TINY = ("--set", "backbone.name=test_efficientnet", "--set", "backbone.weights=none", "--set", "data.image_size=64")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(_one_class, ["class"], id="one class"),
        pytest.param(_empty, ["photos"], id="empty folder"),
        pytest.param(_empty_classes, ["photos"], id="empty class folders"),
        pytest.param(_missing, ["no-such-photos"], id="missing folder"),
        pytest.param(_texts, ["photos"], id="text files"),
        pytest.param(_texts_named_jpg, ["photos"], id="text files named jpg"),
        pytest.param(_file, ["photo.jpg"], id="a photo"),
        pytest.param(_text_file, ["notes.txt"], id="a text file"),
        pytest.param(_with("--set", "phase2.epoch=3"), ["phase2.epoch", "phase2.epochs"], id="unknown key"),
        pytest.param(_with("--set", "phase2.epochs=many"), ["phase2.epochs", "many"], id="value of another kind"),
        pytest.param(_with("--set", "data.split=50/10/10"), ["data.split", "50/10/10"], id="shares"),
        pytest.param(_with("--set", "phase2"), ["KEY=VALUE"], id="setting without value"),
        pytest.param(_with("--recipe", "prob"), ["prob", "probe"], id="unknown recipe"),
        pytest.param(
            _with(*_TINY, "--set", "head.kind=linear", "--set", "head.hidden=[16]"),
            ["hidden", "lbfgs"],
            id="hidden layers with lbfgs",
        ),
        pytest.param(_with(*_TINY, "--set", "head.dropout=0.5"), ["dropout", "lbfgs"], id="dropout with lbfgs"),
        pytest.param(
            _with(*_TINY, "--set", "phase1.train=all"), ["phase1.optimizer=adamw", "lbfgs"], id="blocks with lbfgs"
        ),
        pytest.param(
            _with(*_TINY, "--set", "phase2.train=top-1 layers"), ["top-1 layers", "--layers"], id="nothing to train"
        ),
        pytest.param(_with("--backbone", "efficientnet_lite00"), ["efficientnet_lite0"], id="unknown backbone"),
        pytest.param(_with(*_TINY, "--set", "phase2.train=top-99 blocks"), ["99"], id="more blocks than there are"),
        pytest.param(_with(*_TINY, "--set", "backbone.weights=no.safetensors"), ["no.safetensors"], id="no weights"),
        pytest.param(_foreign_target, ["thesis", "--to"], id="foreign target"),
        pytest.param(_with("--to", "seat/run"), ["seat/run", "--to"], id="target below a file"),
    ],
)
def test_exit_2_one_sentence_and_nothing_left_behind(
    prepare: Callable[[Path], list[str]],
    words: list[str],
    drawn_photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("seat").write_text("a file")
    arguments = prepare(drawn_photos)
    before = sorted(Path().rglob("*"))
    assert run(["fit", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    said = err.splitlines()
    assert said[-1].startswith("fix: ")
    assert len(said[-1]) > len("fix: ")
    assert sum(line.startswith("fix:") for line in said) == 1
    sentence = said[-2]
    assert sentence.endswith((".", "?"))
    for word in words:
        assert word.lower() in f"{sentence}\n{said[-1]}".lower()
    assert sorted(Path().rglob("*")) == before
