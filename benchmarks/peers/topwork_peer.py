"""topwork itself, as a user runs it: one `fit` on a table of photos, with an empty cache."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path

from peer_log import opened


def main() -> None:
    """Run `fit`, then translate the run folder into events."""
    plan, log = opened("topwork", "torch", "openvino")
    import topwork

    run = topwork.fit(plan["table"], recipe=plan["recipe"], to=plan["run"], settings=plan["settings"])
    log.write("rate", phase="frozen", **_trunk_rate(run.path))
    images = len(plan["photos"]["train"])
    for line in (run.path / "history.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        log.write(
            "epoch",
            at=datetime.fromisoformat(row["at"]).timestamp(),
            phase="frozen" if row["phase"] == 1 else "fine-tuning",
            epoch=row["epoch"],
            val_accuracy=row["val"]["accuracy"],
            **({"images": images, "seconds": row["seconds"]} if row["phase"] == 2 else {}),
        )
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    log.write("test", predicted={row["path"]: row["predicted"] for row in rows})


def _trunk_rate(run: Path) -> dict[str, float]:
    """Views through the frozen trunk and the seconds of that stage, conversion and timing of the engine included."""
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    seconds = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["seconds"]
    return {"images": provenance["cache"]["computed"], "seconds": seconds["trunk"]}


if __name__ == "__main__":
    main()
