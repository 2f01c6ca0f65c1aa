"""What a file of this project is, where it came from, and whether it is whole.

One describer a kind, found by the file's name. Each returns facts and faults: what the file says of
itself, and a sentence for everything that is not as it says. `deep` reads every byte and number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pyarrow as pa

from virnuc_assets.classifier import result_files
from virnuc_assets.classifier.head_files import CARD_FILE, WEIGHTS_FILE, head_digest, read_card
from virnuc_assets.classifier.head_files import read_weights as read_head_weights
from virnuc_assets.errors import VirnucError, one_line
from virnuc_assets.inspection_checks import (
    Facts,
    Finding,
    check_parquet,
    check_table,
    faults_of,
    file_faults,
    said_beside,
)
from virnuc_assets.inspection_embeddings import (
    describe_agreement,
    describe_embeddings,
    describe_run,
    describe_view,
)
from virnuc_assets.inspection_metrics import METRICS_FILE, describe_metrics
from virnuc_assets.sequences.folder import MANIFEST_FILE
from virnuc_assets.sequences.manifest import (
    FRAMES_FILE,
    NUCLEOTIDES_FILE,
    PROTEINS_FILE,
    RECORDS_FILE,
    index_digest,
    read_manifest,
)
from virnuc_assets.sequences.sequence_list import UNIQUE_FILE
from virnuc_assets.store.agreement import SUFFIX as AGREEMENT_SUFFIX
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.digests import sha256_file
from virnuc_assets.store.sequence_table import SequenceTable
from virnuc_assets.store.view import VIEW_FILE


@dataclass(frozen=True)
class Inspected:
    """What was found; JSON-ready but for the path."""

    path: Path
    kind: str
    facts: Facts
    faults: tuple[str, ...]
    """A sentence each; none: the file is whole, as far as was looked."""


def inspect(path: Path, deep: bool) -> Inspected:
    """Describe and check one file or folder. `deep`: hash and read all of its contents."""
    kind, facts, faults = "unknown", Facts(), [f"{path}: no such file; check the path"]
    try:
        file = _speaker_of(path) if path.is_dir() else path
        if file is None or file.exists():
            kind, describe = _kind_of(file)
            facts, faults = describe(file or path, deep)
    except VirnucError as error:
        faults = [str(error)]
    except (KeyError, TypeError, AttributeError) as error:
        # A JSON file of that name with other contents.
        faults = [f"{path}: is not the {kind} of this version ({error!r})"]
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        faults = [
            f"{path}: cannot be read ({one_line(error)}); check its permissions or make it again"
        ]
    return Inspected(path, kind, facts, tuple(faults))


def _kind_of(file: Path | None) -> tuple[str, Callable[[Path, bool], Finding]]:
    """What a file of that name is, and what describes it."""
    for pattern, kind, describe in _KINDS:
        if file is not None and fnmatch(file.name, pattern):
            return kind, describe
    return "unknown", _describe_unknown


def _speaker_of(folder: Path) -> Path | None:
    """The file that says what `folder` holds."""
    names = (MANIFEST_FILE, result_files.MANIFEST, CARD_FILE, VIEW_FILE, METRICS_FILE)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _describe_unknown(path: Path, deep: bool) -> Finding:
    return {}, [
        f"{path}: is no file that virnuc writes; give a .h5, .arrow or .parquet file, a JSON file "
        "beside them, or the folder of an index, of embeddings, of results, of a head or of an "
        "evaluation"
    ]


def _describe_index(path: Path, deep: bool) -> Finding:
    folder = path.parent
    if "kind" in read_json(path):
        return _describe_list(path, deep)
    manifest = read_manifest(folder)
    faults = []
    if index_digest(manifest) != manifest.index_digest:
        faults.append(f"{path}: its index digest is not that of what it says; make the index again")
    tables = {
        NUCLEOTIDES_FILE: (manifest.unique_nucleotides, manifest.nucleotides_sha256),
        PROTEINS_FILE: (manifest.unique_proteins, manifest.proteins_sha256),
    }
    for name, (rows, sha256) in tables.items():
        faults += faults_of(check_table, folder / name, rows, sha256, deep)
    for name, rows in {RECORDS_FILE: manifest.records, FRAMES_FILE: manifest.frames}.items():
        faults += faults_of(check_parquet, folder / name, rows, manifest.index_digest, deep)
    return asdict(manifest), faults


def _describe_list(path: Path, deep: bool) -> Finding:
    value = read_json(path)
    rows, sha256 = value["unique_sequences"], value["sequences_sha256"]
    table = path.parent / UNIQUE_FILE
    return value, faults_of(check_table, table, rows, sha256, deep)


def _describe_table(path: Path, deep: bool) -> Finding:
    table = SequenceTable(path)
    lengths = table.lengths()
    facts: Facts = {"sequences": len(table), "letters": int(lengths.sum())}
    if len(lengths):
        facts |= {"longest": int(lengths.max()), "shortest": int(lengths.min())}
    faults = []
    if (np.diff(lengths) > 0).any():
        faults.append(f"{path}: its sequences are not the longest first; make the index again")
    said = said_beside(path.parent / MANIFEST_FILE)
    key = "sequences_sha256" if path.name == UNIQUE_FILE else f"{path.stem}_sha256"
    if key in said:
        facts |= {"index_digest": said["index_digest"], "input": said["input_name"]}
    if deep:
        facts["sha256"] = sha256_file(path)
        if facts["sha256"] != said.get(key, facts["sha256"]):
            faults.append(
                f"{path}: is not the table that {MANIFEST_FILE} describes (SHA-256 differs); make "
                "the index again"
            )
    return facts, faults


def _describe_parquet(path: Path, deep: bool) -> Finding:
    facts = check_parquet(path, None, None, deep)
    index, results = (
        said_beside(path.parent / name) for name in (MANIFEST_FILE, result_files.MANIFEST)
    )
    faults = []
    if index and facts.get("index_digest") != index.get("index_digest"):
        faults.append(f"{path}: belongs to another index than {MANIFEST_FILE}; make it again")
    if path.name in results.get("files", {}):
        faults += file_faults(path, results["files"][path.name], deep)
    return facts, faults


def _describe_results(path: Path, deep: bool) -> Finding:
    value = read_json(path)
    counts = value["counts"]
    rows = {
        result_files.FRAMES: counts["n_frames"],
        result_files.CHUNKS: counts["n_called_chunks"],
        result_files.RECORDS: counts["n_records"],
    }
    faults = []
    for name, said in value["files"].items():
        faults += file_faults(path.parent / name, said, deep)
    for name, n in rows.items():
        if (path.parent / name).is_file():
            faults += faults_of(check_parquet, path.parent / name, n, None, deep)
    facts = {"model": value["model"], **counts, "median_score": value["median_score"]}
    return facts | value["provenance"], faults


def _describe_original(path: Path, deep: bool) -> Finding:
    results = path.parent / result_files.MANIFEST
    said = read_json(results)
    facts = {"model": said["model"], "bytes": path.stat().st_size}
    return facts, file_faults(path, said["files"][path.name], deep)


def _describe_head(path: Path, deep: bool) -> Finding:
    card = read_card(path.parent)
    read_head_weights(path.parent, card)
    return {**asdict(card), "head_digest": head_digest(path.parent)}, []


def _describe_sample(path: Path, deep: bool) -> Finding:
    facts = read_json(path)
    source = Path(facts["source"])
    gone = f"{path}: its file {source} is no longer there; add the sample again"
    return facts, [] if source.is_file() else [gone]


_KINDS: tuple[tuple[str, str, Callable[[Path, bool], Finding]], ...] = (
    (MANIFEST_FILE, "sequence index", _describe_index),
    ("*.arrow", "sequence table", _describe_table),
    ("*.parquet", "table", _describe_parquet),
    (VIEW_FILE, "view of a sample's embeddings", describe_view),
    ("block-*.h5", "block of embeddings", describe_embeddings),
    ("shard-*.h5", "shard of embeddings", describe_embeddings),
    ("*.h5", "embeddings", describe_embeddings),
    ("run*.json", "record of a run", describe_run),
    (f"*{AGREEMENT_SUFFIX}", "comparison with float32", describe_agreement),
    ("sample.json", "sample", _describe_sample),
    (result_files.MANIFEST, "results", _describe_results),
    (result_files.ORIGINAL_FRAMES, "scores of frames, as the original writes", _describe_original),
    (result_files.ORIGINAL_CHUNKS, "calls of chunks, as the original writes", _describe_original),
    (CARD_FILE, "head", _describe_head),
    (WEIGHTS_FILE, "head", _describe_head),
    (METRICS_FILE, "metrics", describe_metrics),
)
