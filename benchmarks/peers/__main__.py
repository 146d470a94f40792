"""topwork against fastai, a plain PyTorch loop, Hugging Face's Trainer and Keras: same photos, folds, network, weights.

    python benchmarks/peers flowers --folds 1
    python benchmarks/peers flowers --folds 3 --only topwork --only fastai --epochs 8
    python benchmarks/peers flowers --photos-per-class 20 --epochs 1 --results /tmp/check.md       (a quick check)

Each peer runs alone, as a process of its own in a virtual environment of its own (`--venvs`), with all cores, one after
the other, with all photos in the system's file cache. Seconds count from process start; topwork starts with an empty
cache of its own. What was measured with the same photos, options and code is read from `--logs` and not run again;
peers that `--only` leaves out stand in the table with the folds that are known of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent))

from environments import ENVIRONMENTS, python_of
from measured import COLUMNS, Measured, chosen_variant, row_of, summary
from memory import watch_memory
from peer_log import Log
from photos import named_data, scan_with_groups, thinned
from plan import CONTESTS, Contest, Entry, fold_plan, plan_digest, write_plan
from results import Section, add_results_options, publish
from weights import export_weights, write_feature_check

import topwork
from topwork.cachedir import cache_folder
from topwork.data.manifest import Manifest
from topwork.data.split import folds
from topwork.digest import digest, file_sha256

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of class folders, or the name of a data set in TOPWORK_TEST_DATA")
    parser.add_argument("--groups", type=Path, help="default: DATA_groups.txt where it exists")
    parser.add_argument("--folds", type=int, default=1, help="how many of five folds; times are medians over them")
    parser.add_argument("--photos-per-class", type=int, help="for a quick check")
    parser.add_argument("--epochs", type=int, default=8, help="of fine-tuning; one more epoch trains the head alone")
    parser.add_argument("--threshold", type=float, help="T for every network; default 0.92 and 0.88")
    parser.add_argument(
        "--only", action="append", help="run topwork, fastai, pytorch, huggingface or keras; of others what is known"
    )
    parser.add_argument("--recipe", default="default", help="topwork's")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="topwork's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the peers; topwork takes its own")
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    home = cache_folder() / "benchmarks"
    parser.add_argument("--venvs", type=Path, default=home / "venvs", help="made when missing, 8 GB in all")
    parser.add_argument("--logs", type=Path, default=home / "peers")
    add_results_options(parser)
    return parser.parse_args()


def code_of(entry: Entry) -> str:
    """Digest of what decides the entry's result besides the plan."""
    names = [f"{entry.peer}_peer.py", "torch_photos.py"]
    own = [file_sha256(HERE / name) for name in names]
    if entry.environment is not None:
        environment = ENVIRONMENTS[entry.environment]
        shared = ENVIRONMENTS[environment.sees].packages if environment.sees else ()
        return digest(own, environment.packages, shared)
    package = Path(topwork.__file__).parent
    return digest(own, [file_sha256(path) for path in sorted(package.rglob("*.py"))])


def run(entry: Entry, plan: Mapping[str, Any], *, log: Log, venvs: Path) -> None:
    """Run one peer alone; its log says all."""
    command_environment = {key: value for key, value in os.environ.items() if key not in _THREADS}
    python = sys.executable
    if entry.environment is not None:
        python = str(python_of(entry.environment, venvs))
        command_environment.pop("PYTHONPATH", None)
    for part in plan["photos"].values():
        for path, _ in part:
            (Path(plan["root"]) / path).read_bytes()  # into the system's cache, the same for everybody
    log.path.parent.mkdir(parents=True, exist_ok=True)
    log.path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as temporary, log.path.with_suffix(".txt").open("w") as output:
        command_environment |= {"TOPWORK_CACHE": f"{temporary}/cache", "HF_HUB_OFFLINE": "1", "TMPDIR": temporary}
        command = [python, str(HERE / f"{entry.peer}_peer.py"), str(write_plan(plan, Path(temporary))), str(log.path)]
        log.write("start", peer=entry.peer)
        process = subprocess.Popen(
            command, env=command_environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            with watch_memory(process.pid) as memory:
                code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        log.write("end", exit=code, memory=memory.to_json(), load=os.getloadavg()[0])


def finished(log: Log) -> bool:
    """Whether the log is that of a run that ended well."""
    events = log.read()
    return bool(events) and events[-1]["event"] == "end" and events[-1]["exit"] == 0


def settings_of(contest: Contest, given: argparse.Namespace, *, weights: Path) -> list[str]:
    """topwork's settings: the network of the contest, as many epochs as everybody."""
    network = []
    if contest.name != "efficientnet_lite0":
        network = [f"backbone.name={contest.name}", f"backbone.weights={weights}"]
    return [*network, f"phase2.epochs={given.epochs}", f"data.seed={given.seed}", *given.settings]


def measure(
    contest: Contest,
    entry: Entry,
    *,
    variants: Sequence[Mapping[str, Any]],
    plan: Mapping[str, Any],
    given: argparse.Namespace,
) -> list[Measured]:
    """Some variants of an entry on one fold; an empty list if one failed, or is neither known nor to be run."""
    found = []
    for variant in variants:
        own = {**plan, **variant}
        if entry.peer == "topwork":
            own |= {"recipe": given.recipe, "settings": settings_of(contest, given, weights=Path(plan["weights"]))}
        log = Log(given.logs / f"{contest.name}-{entry.peer}-{plan_digest(own, entry, code=code_of(entry))}.jsonl")
        known = finished(log) and not (given.again and chosen(entry, given.only))
        if not known and not chosen(entry, given.only):
            return []
        if not known:
            run(entry, own, log=log, venvs=given.venvs)
        if not finished(log):
            print(f"{entry.peer} failed; the end of {log.path.with_suffix('.txt')}:", flush=True)
            print("\n".join(log.path.with_suffix(".txt").read_text(errors="replace").splitlines()[-8:]), flush=True)
            return []
        found.append(Measured(events=log.read(), truth=dict(plan["photos"]["test"])))
        share = sum(found[-1].right.values()) / len(found[-1].right)
        what = " ".join([contest.name, entry.peer, *(f"{key}={value}" for key, value in variant.items())])
        earlier = ", measured earlier" if known else ""
        print(f"{what}: test accuracy {share:.4f} in {found[-1].seconds:.0f} s{earlier}", flush=True)
    return found


def check_keras(
    contest: Contest, manifest: Manifest, *, weights: Path, plan: Mapping[str, Any], venvs: Path
) -> tuple[str, bool]:
    """What Keras's features and timm's have in common, as a sentence, and whether they are the same network."""
    python = python_of("keras", venvs)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "features.npz"
        write_feature_check(path, contest, weights=weights, manifest=manifest)
        command = [str(python), str(HERE / "keras_peer.py"), str(write_plan(plan, Path(temporary)))]
        environment = {**os.environ, "KERAS_CHECK": str(path)}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [*command, f"{temporary}/log"], env=environment, check=False, stdout=subprocess.PIPE, text=True
        )
    said = done.stdout.strip() or f"the check ended with exit code {done.returncode}"
    return f"keras: {said}{'' if done.returncode == 0 else ': skipped'}.", done.returncode == 0


def tuned(
    contest: Contest, entry: Entry, *, plans: Sequence[Mapping[str, Any]], given: argparse.Namespace
) -> tuple[Mapping[str, Any], list[Measured], float] | None:
    """An entry with the variant that is best on the first fold's validation photos: that variant, its run on every
    fold, and the seconds of all runs, the tuning among them. None if a run failed.

    An entry that is not chosen is not run: it has the folds that are known, or None if the first one is not.
    """
    first = measure(contest, entry, variants=entry.variants, plan=plans[0], given=given)
    if not first:
        return None
    best = chosen_variant(first)
    runs = [first[best]]
    for plan in plans[1:]:
        one = measure(contest, entry, variants=entry.variants[best : best + 1], plan=plan, given=given)
        if not one and chosen(entry, given.only):
            return None
        if not one:
            break
        runs += one
    return entry.variants[best], runs, sum(run.seconds for run in [*first, *runs[1:]])


def chosen(entry: Entry, only: Sequence[str] | None) -> bool:
    """Whether an entry is to be run; topwork always is, to compare with."""
    return not only or entry.peer in only or entry.peer == "topwork"


def wanted(contest: Contest, only: Sequence[str] | None) -> bool:
    """Whether any entry of a contest was asked for by name."""
    return not only or any(entry.peer in only for entry in contest.entries)


def contest_rows(
    contest: Contest, manifests: Sequence[Manifest], *, given: argparse.Namespace
) -> tuple[list[list[str]], list[str], dict[str, Any]]:
    """Rows, notes and figures of one network."""
    weights = export_weights(contest, given.logs) if wanted(contest, given.only) else ""
    if isinstance(weights, str):
        return [], [f"{contest.name}: skipped, {weights}."] if weights else [], {}
    shared = {"epochs": given.epochs, "frozen_epochs": 1, "batch": 32, "seed": given.seed, "threads": given.threads}
    plans = [fold_plan(manifest, contest, weights=weights, options=shared) for manifest in manifests]
    threshold = contest.threshold if given.threshold is None else given.threshold
    rows, notes, data = [], [f"{contest.name}: T = {threshold}."], {}
    reference: list[Measured] = []
    for entry in contest.entries:
        if entry.peer == "keras" and chosen(entry, given.only):
            sentence, agrees = check_keras(contest, manifests[0], weights=weights, plan=plans[0], venvs=given.venvs)
            notes.append(sentence)
            if not agrees:
                continue
        measured = tuned(contest, entry, plans=plans, given=given)
        if measured is None:
            notes += [f"{contest.name}, {entry.peer}: failed."] if chosen(entry, given.only) else []
            continue
        variant, runs, every = measured
        reference = reference or runs
        settings = " ".join(f"{key} {value:g}" for key, value in variant.items())
        label = f"{contest.name}: {entry.peer} {settings}".rstrip()
        facts = summary(runs, topwork=reference, threshold=threshold)
        rows.append(row_of(label, facts))
        data[label] = {**facts, "threshold": threshold, "seconds_of_all_variants": every}
        notes += [entry.note] if entry.note else []
    return rows, notes, data


def main() -> None:
    """Run every contest and print one table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running peer is ended too
    given = options()
    folder = named_data(given.data)
    found = thinned(scan_with_groups(folder, given.groups), given.photos_per_class)
    manifests = list(folds(found, k=5, seed=given.seed, val_share=0.1))[: given.folds]
    given.logs.mkdir(parents=True, exist_ok=True)
    started = time.time()
    results = {contest.name: contest_rows(contest, manifests, given=given) for contest in CONTESTS}
    section = Section(
        name=f"peers-{folder.name.lower()}",
        title=f"Peers: {folder.name}, n={len(found.records)}, {len(manifests)} of 5 folds, {given.epochs} epochs",
        columns=COLUMNS,
        rows=[row for rows, _, _ in results.values() for row in rows],
        notes=[
            *(note for _, notes, _ in results.values() for note in notes),
            "Seconds from process start, cold cache; medians over folds and their range. Accuracy: pooled test photos, "
            "Wilson 95 %. Paired: photos that only this peer got right : only topwork, exact McNemar test.",
            "Memory: largest sum over the process and its children, without pages of mapped files.",
            "images/s: training photos of an epoch over its seconds, validation included; topwork frozen: views "
            "through the trunk, engine start-up included; its fine-tuning reads what the trunk left.",
            f"The peers on PyTorch share one copy of it (`{given.venvs.name}/pytorch`); all else is their own.",
        ],
        data={
            "photos": len(found.records),
            "folds": len(manifests),
            "epochs": given.epochs,
            "seconds_of_this_command": time.time() - started,
            "peers": {label: facts for _, _, data in results.values() for label, facts in data.items()},
        },
    )
    publish(section, given)


if __name__ == "__main__":
    main()
