"""Checks of predictions: nothing is lost from records to calls, scores are numbers, digests agree,
and the sample is not unlike all others."""

import dagster as dg

from virnuc_assets.assets.failures import explained
from virnuc_assets.assets.predictions import predictions
from virnuc_assets.encoders.catalog import PREFIXES
from virnuc_assets.errors import StoreError
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Store
from virnuc_assets.sequences.manifest import RECORDS_FILE, read_manifest
from virnuc_assets.settings import ENCODERS
from virnuc_assets.store.digests import shards_digest


@dg.asset_check(asset=predictions, partitions_def=samples, blocking=True)
@explained()
def every_record_is_accounted_for(
    context: dg.AssetCheckExecutionContext, store: Store
) -> dg.AssetCheckResult:
    """Each record of the input has exactly one row in the results, in the input's order."""
    from virnuc_assets.classifier import result_files as files

    name = context.partition_key
    indexed = files.read_parquet(store.layout.index(name) / RECORDS_FILE, ["id"])
    results = files.read_parquet(store.layout.predictions(name) / files.RECORDS, ["id"])
    return dg.AssetCheckResult(
        passed=indexed.equals(results), metadata={"input": len(indexed), "results": len(results)}
    )


@dg.asset_check(asset=predictions, partitions_def=samples, blocking=True)
@explained()
def counts_reconcile(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
    """Frames add up to chunks, chunks to records, and all to what results and index say."""
    from virnuc_assets.classifier.result_checks import reconcile

    name = context.partition_key
    manifest = read_manifest(store.layout.index(name))
    index = {
        "n_records": manifest.records,
        "n_chunks": manifest.chunks,
        "n_frames": manifest.frames,
        "n_unique_nucleotides": manifest.unique_nucleotides,
        "n_unique_proteins": manifest.unique_proteins,
    }
    counts = reconcile(store.layout.predictions(name), index)
    return dg.AssetCheckResult(
        passed=counts.adds_up,
        metadata={
            "differing": list(counts.differing),
            "wrong_records": counts.wrong_records,
            **counts.found,
        },
    )


@dg.asset_check(asset=predictions, partitions_def=samples, blocking=True)
@explained()
def scores_are_probabilities(
    context: dg.AssetCheckExecutionContext, store: Store
) -> dg.AssetCheckResult:
    """No score of a frame, chunk or record is NaN or not a probability."""
    from virnuc_assets.classifier.result_checks import wrong_scores

    wrong = wrong_scores(store.layout.predictions(context.partition_key))
    return dg.AssetCheckResult(passed=not any(wrong.values()), metadata=wrong)


@dg.asset_check(asset=predictions, partitions_def=samples, blocking=True)
@explained()
def digests_agree(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
    """The results were made from the index and the shards that are there now."""
    from virnuc_assets.classifier import result_files as files
    from virnuc_assets.store.view import VIEW_FILE, read_view

    name = context.partition_key
    used = files.read_manifest(store.layout.predictions(name))["provenance"]
    there = {"index_digest": read_manifest(store.layout.index(name)).index_digest}
    for encoder in ENCODERS:
        prefix = PREFIXES[encoder]
        try:
            view = read_view(store.layout.embeddings(name, encoder) / VIEW_FILE)
        except StoreError as error:
            return dg.AssetCheckResult(passed=False, description=str(error))
        there |= {
            f"{prefix}_encoder_digest": view.encoder_digest,
            f"{prefix}_dtype": view.dtype,
            f"{prefix}_shards_digest": shards_digest(view.checksums),
        }
    differing = [key for key, digest in there.items() if used[key] != digest]
    return dg.AssetCheckResult(passed=not differing, metadata={"differing": differing})


@dg.asset_check(asset=predictions, partitions_def=samples)
@explained()
def is_like_its_cohort(context: dg.AssetCheckExecutionContext, store: Store) -> dg.AssetCheckResult:
    """The sample's figures lie where those of the other samples did when last summarised.

    A warning, not a fault: a sample that is unlike all others may well be so.
    """
    from virnuc_assets.classifier import result_files as files
    from virnuc_assets.classifier.cohort import COMPARED, drift, key_figures
    from virnuc_assets.classifier.cohort_page import TABLE

    name = context.partition_key
    figures = key_figures(files.read_manifest(store.layout.predictions(name)))
    known = {figure: figures[figure] for figure in COMPARED if figures[figure] is not None}
    passed, said = True, "there is no summary of the cohort yet"
    path = store.layout.cohort / TABLE
    if path.exists():
        try:
            table = files.read_parquet(path, ["sample", "model", "chunk_length", *COMPARED])
            passed, said = _compared(drift(table, name, figures))
        except StoreError as error:
            passed, said = False, str(error)
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=said,
        metadata=known,
    )


def _compared(away: dict[str, float] | None) -> tuple[bool, str]:
    """Whether a sample passes, and why, by what `drift` found."""
    if away is None:
        return True, "too few other samples of this model to compare with"
    if not away:
        return True, "as the other samples are"
    said = ", ".join(f"{figure} (modified z-score {z:+.1f})" for figure, z in away.items())
    return False, f"stands out in {said}"
