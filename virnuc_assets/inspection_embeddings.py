"""What files of embeddings say: shards, blocks, views, the output of `virnuc embed`, and the
records of runs and comparisons beside them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np

from virnuc_assets.errors import UnusableFileError
from virnuc_assets.inspection_checks import Finding, said_beside
from virnuc_assets.sequences.folder import MANIFEST_FILE
from virnuc_assets.store.agreement import read_agreement
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.embeddings import read_attributes, verify_contents
from virnuc_assets.store.seal import check_seal
from virnuc_assets.store.view import read_view, verify_view

_RUN_FACTS = ("started", "end", "seconds", "sequences", "tokens", "tokens_per_second", "failures")


def describe_view(path: Path, deep: bool) -> Finding:
    """Facts and faults of a view; `deep`: of all that it shows."""
    view = read_view(path)
    facts = asdict(view)
    del facts["path"]
    facts["set_aside"] = len(view.set_aside)
    if deep:
        return facts, verify_view(view)
    missing = [name for name in view.shards if not (path.parent / name).is_file()]
    return facts, [
        f"{path}: {name}, which it shows, is missing; embed this shard again" for name in missing
    ]


def describe_embeddings(path: Path, deep: bool) -> Finding:
    """Facts and faults of a shard, a block, or the output of `virnuc embed`."""
    check_seal(path)
    with h5py.File(path, "r") as file:
        if "sequence_ids" in file:
            return _describe_embedded(path, file, deep)
    read = verify_contents(path) if deep else read_attributes(path)
    facts = {
        "dim": read.dim,
        **asdict(read.identity),
        **asdict(read.counts),
        "set_aside": len(read.set_aside),
        **asdict(read.origin),
        "checksum": read.checksum,
    }
    # In a store a sample's index lies beside its embeddings.
    said = said_beside(path.absolute().parent.parent.parent / "index" / MANIFEST_FILE)
    faults = []
    if said and said["index_digest"] != read.identity.index_digest:
        faults.append(f"{path}: was made from another index than the sample's; embed it again")
    return facts, faults


def _describe_embedded(path: Path, file: h5py.File, deep: bool) -> Finding:
    values = file["embeddings"]
    facts = {"records": values.shape[0], "dim": values.shape[1]}
    facts |= {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in file.attrs.items()
    }
    if not deep:
        return facts, []
    unusable = sum(
        int((~np.isfinite(values[start : start + 4096])).any(axis=1).sum())
        for start in range(0, len(values), 4096)
    )
    if unusable != facts["set_aside"]:
        raise UnusableFileError(path, f"{unusable} records have values that are not finite numbers")
    return facts, []


def describe_run(path: Path, deep: bool) -> Finding:
    """Facts of a `run.json`, or of one of some shards."""
    value = read_json(path)
    encoding = value["job"]["encoding"]
    facts = {name: encoding[name] for name in ("encoder", "weights", "dtype")}
    facts |= {"index_digest": value["job"]["index_digest"]}
    facts |= {name: value[name] for name in _RUN_FACTS}
    facts |= {"devices": list(value["devices"]), "set_aside": len(value["set_aside"])}
    return facts, []


def describe_agreement(path: Path, deep: bool) -> Finding:
    """Facts and faults of a comparison with float32."""
    record = read_agreement(path)
    if record is None or record.passed:
        return {} if record is None else asdict(record), []
    return asdict(record), [
        f"{path}: shard {record.shard} was found not to agree with float32; delete the shard and "
        "embed it again"
    ]
