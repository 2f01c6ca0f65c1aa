"""What a `metrics.json` says: that of `virnuc evaluate`, or that of a head `virnuc` trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from virnuc_assets.evaluation.evaluate import ALL, GROUPS, LEFT_OUT, OURS
from virnuc_assets.evaluation.write import JSON, PAGE, TSV
from virnuc_assets.inspection_checks import Facts, Finding
from virnuc_assets.store.atomic import read_json

METRICS_FILE = JSON
_SHOWN = ("auroc", "auprc", "mcc", "recall_at_1_percent_fpr", "ece")


def describe_metrics(path: Path, deep: bool) -> Finding:
    """Facts and faults of a `metrics.json`; `deep` adds nothing, there is no more to read."""
    value = read_json(path)
    if "head" in value:
        return _of_a_head(value), []
    facts = {"of": "an evaluation", "model": value["model"], "chunk_length": value["chunk_length"]}
    over_all = {"tool": OURS, "label": ALL, "weight": GROUPS, "no_call": LEFT_OUT}
    for row in value["metrics"]:
        if all(row[name] == wanted for name, wanted in over_all.items()):
            facts |= {f"{row['level']}_{name}": row[name] for name in _SHOWN}
    facts |= {**value["counts"], **value["provenance"], "version": value["version"]}
    faults = [
        f"{path}: {name}, which was written with it, is missing; evaluate again"
        for name in (TSV, PAGE)
        if not (path.parent / name).is_file()
    ]
    table = path.parent / TSV
    if table.is_file():
        with table.open(encoding="utf-8") as lines:
            rows = sum(1 for _ in lines) - 1
        if rows != len(value["metrics"]):
            faults.append(
                f"{table}: has {rows} rows and {path.name} {len(value['metrics'])}; evaluate again"
            )
    return facts, faults


def _of_a_head(value: dict[str, Any]) -> Facts:
    facts = {"of": "a trained head", "name": value["head"]["name"]}
    facts |= {name: value[name] for name in ("best_epoch", "temperature")}
    facts |= {name: value[name] for name in ("masked_frames", "set_aside_frames")}
    return facts | value["provenance"]
