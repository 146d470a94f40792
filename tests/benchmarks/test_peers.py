"""Peers: logs are read back, times count from process start, predictions are compared photo by photo."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import environments
import pytest
from measured import COLUMNS, Measured, chosen_variant, row_of, summary
from peer_log import Log
from photos import scan_with_groups
from plan import CONTESTS, Entry, fold_plan, plan_digest, write_plan

from topwork.data.split import folds

TRUTH = {f"{number}.jpg": "a" for number in range(10)}


def run(*, scores: list[float], right: int = 9, start: float = 100.0, epoch: float = 10.0) -> Measured:
    """A run whose epochs take the same time each, and whose first photos are right."""
    events: list[dict[str, Any]] = [{"event": "start", "at": start}]
    for number, score in enumerate(scores, start=1):
        facts = {"phase": "frozen" if number == 1 else "fine-tuning", "images": 50, "seconds": epoch}
        events.append({"event": "epoch", "at": start + number * epoch, "val_accuracy": score, **facts})
    predicted = {path: "a" if number < right else "b" for number, path in enumerate(TRUTH)}
    events.append({"event": "test", "at": start + 99, "predicted": predicted})
    events.append({"event": "end", "at": start + 100, "exit": 0, "memory": {"resident": 10**9, "anonymous": 10**8}})
    return Measured(events=events, truth=TRUTH)


def test_time_to_the_threshold_counts_from_process_start() -> None:
    one = run(scores=[0.5, 0.93, 0.91, 0.95])
    assert one.seconds_to(0.92) == 20.0
    assert one.seconds_to(0.5) == 10.0
    assert one.seconds_to(0.951) is None
    assert one.seconds == 100.0
    assert one.rate("frozen") == 5.0
    assert one.rate("none of these") is None


def test_a_threshold_that_was_never_reached_is_said() -> None:
    base = run(scores=[0.95])
    never, once = run(scores=[0.5]), run(scores=[0.5, 0.95])
    facts = summary([never], topwork=[base], threshold=0.92)
    assert row_of("x", facts)[2] == "not reached"
    facts = summary([never, once], topwork=[base, base], threshold=0.92)
    assert row_of("x", facts)[1:3] == ["2", "20, in 1 of 2 folds"]
    facts = summary([once], topwork=[base], threshold=0.92)
    row = row_of("x", facts)
    assert row[2] == "20, 2.0 times topwork's"
    assert len(row) == len(COLUMNS)


def test_ratios_are_taken_fold_by_fold() -> None:
    ours = [run(scores=[0.95], epoch=seconds) for seconds in (1.0, 10.0, 100.0)]
    theirs = [run(scores=[0.95], epoch=seconds) for seconds in (3.0, 20.0, 500.0)]
    facts = summary(theirs, topwork=ours, threshold=0.9)
    assert facts["threshold_ratio"] == pytest.approx(3.0)  # the median of 3, 2, 5; the ratio of medians would be 2


def test_pairs_are_photos_that_only_one_got_right() -> None:
    facts = summary([run(scores=[0.9], right=4)], topwork=[run(scores=[0.9], right=9)], threshold=0.9)
    assert facts["paired"] == {"only_this": 0, "only_topwork": 5, "p": 0.0625}
    assert facts["accuracy"]["n"] == 10
    same = [run(scores=[0.9])]
    assert summary(same, topwork=same, threshold=0.9)["paired"] is None


def test_a_photo_without_prediction_is_wrong() -> None:
    one = run(scores=[0.9], right=10)
    assert all(one.right.values())
    more = replace(one, truth={**TRUTH, "unseen.jpg": "a"})
    assert more.right["unseen.jpg"] is False


def test_variants_are_chosen_by_validation_never_by_test() -> None:
    good_on_test = run(scores=[0.90], right=10)
    good_on_validation = run(scores=[0.80, 0.92], right=5)
    assert chosen_variant([good_on_test, good_on_validation]) == 1
    assert chosen_variant([good_on_test, good_on_test]) == 0


def test_a_log_survives_a_kill(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.write("start", at=1.0, peer="x")
    log.write("epoch", val_accuracy=0.5)
    assert [event["event"] for event in log.read()] == ["start", "epoch"]
    log.path.write_text(log.path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    assert log.read() == [{"event": "start", "at": 1.0, "peer": "x"}]
    assert Log(tmp_path / "none.jsonl").read() == []


def test_every_peer_reads_the_same_photos(tmp_path: Path, drawn_photos: Path) -> None:
    manifest = folds(scan_with_groups(drawn_photos, None), k=5, seed=0, val_share=0.1)[0]
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    contest = CONTESTS[0]
    plan = fold_plan(manifest, contest, weights=weights, options={"epochs": 3})
    written = json.loads(write_plan(plan, tmp_path).read_text(encoding="utf-8"))
    assert written["photos"] == plan["photos"]
    assert sum(map(len, plan["photos"].values())) == len(manifest.rows)
    table = scan_with_groups.__globals__["scan"](tmp_path / "photos.csv")
    assert {(record.path, record.split) for record in table.records} == {(row.path, row.split) for row in manifest.rows}


def test_a_measurement_is_named_by_what_decides_it(tmp_path: Path, drawn_photos: Path) -> None:
    first, second, *_ = folds(scan_with_groups(drawn_photos, None), k=5, seed=0, val_share=0.1)
    weights, moved = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    weights.write_bytes(b"weights")
    moved.write_bytes(b"weights")
    contest, entry = CONTESTS[0], CONTESTS[0].entries[0]

    def name(manifest: Any, file: Path, *, epochs: int = 3, code: str = "") -> str:
        return plan_digest(fold_plan(manifest, contest, weights=file, options={"epochs": epochs}), entry, code=code)

    base = name(first, weights)
    assert name(first, moved) == base
    assert len({base, name(second, weights), name(first, weights, epochs=4), name(first, weights, code="other")}) == 4


def test_every_peer_has_its_script_and_environment(repo: Path) -> None:
    for contest in CONTESTS:
        assert contest.entries[0].peer == "topwork"
        for entry in contest.entries:
            assert (repo / f"benchmarks/peers/{entry.peer}_peer.py").is_file()
            assert entry.environment is None or entry.environment in environments.ENVIRONMENTS
    sees = [environment.sees for environment in environments.ENVIRONMENTS.values() if environment.sees]
    assert set(sees) <= environments.ENVIRONMENTS.keys()


def peers_main() -> Any:
    spec = importlib.util.spec_from_file_location("peers_main", Path(environments.__file__).with_name("__main__.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_are_tuned_on_the_first_fold_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = peers_main()
    scores = {(1, "a"): 0.8, (1, "b"): 0.9, (2, "b"): 0.7}
    asked: list[tuple[int, str]] = []

    def measure(contest: Any, entry: Any, *, variants: Any, plan: Any, given: Any) -> list[Measured]:
        keys = [(plan["fold"], variant["lr"]) for variant in variants]
        asked.extend(keys)
        return [run(scores=[scores[key]]) for key in keys]

    monkeypatch.setattr(peers, "measure", measure)
    entry = Entry(peer="pytorch", variants=({"lr": "a"}, {"lr": "b"}))
    given = SimpleNamespace(only=None)
    variant, runs, _ = peers.tuned(CONTESTS[0], entry, plans=[{"fold": 1}, {"fold": 2}], given=given)
    assert asked == [(1, "a"), (1, "b"), (2, "b")]
    assert variant == {"lr": "b"}
    assert [one.best_validation for one in runs] == [0.9, 0.7]


def test_a_peer_that_is_left_out_keeps_the_folds_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = peers_main()
    known = {1: 0.9, 2: 0.8}

    def measure(contest: Any, entry: Any, *, variants: Any, plan: Any, given: Any) -> list[Measured]:
        return [run(scores=[known[plan["fold"]]])] if plan["fold"] in known else []

    monkeypatch.setattr(peers, "measure", measure)
    plans = [{"fold": fold} for fold in (1, 2, 3)]
    left_out, failed = SimpleNamespace(only=["keras"]), SimpleNamespace(only=["fastai"])
    found = peers.tuned(CONTESTS[0], Entry(peer="fastai"), plans=plans, given=left_out)
    assert [one.best_validation for one in found[1]] == [0.9, 0.8]
    assert peers.tuned(CONTESTS[0], Entry(peer="fastai"), plans=plans, given=failed) is None
    known.clear()
    assert peers.tuned(CONTESTS[0], Entry(peer="fastai"), plans=plans, given=left_out) is None


def test_what_is_left_out_is_never_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peers = peers_main()
    monkeypatch.setattr(peers, "run", lambda *_, **__: pytest.fail("run"))
    given = SimpleNamespace(only=["keras"], again=True, logs=tmp_path, venvs=tmp_path)
    entry = Entry(peer="fastai", environment="fastai")
    assert peers.measure(CONTESTS[0], entry, variants=({},), plan={"photos": {"test": []}}, given=given) == []
