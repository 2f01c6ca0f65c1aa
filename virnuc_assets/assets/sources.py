"""What a sample's chain starts from and Dagster does not make: files, heads, encoders' weights.

Their versions are data versions: what was made from an earlier one is stale. The sensors `inbox`
and `sources` observe them; so does "Observe" in the UI.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import dagster as dg

from virnuc_assets import pipeline, settings, versions
from virnuc_assets.assets.gpu_pool import make_pool_known
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Models, Store
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import Sample, all_samples

DATA_VERSION_TAG = "dagster/data_version"
_GROUP = "sources"

Source = tuple[str, str | None]
"""An asset of this module and, where it has partitions, the sample."""

with warnings.catch_warnings():
    # Beta in the versions of Dagster that this package allows.
    warnings.simplefilter("ignore", dg.BetaWarning)

    @dg.observable_source_asset(partitions_def=samples, group_name=_GROUP)
    def sample_file(store: Store, models: Models) -> dg.DataVersionsByPartition:
        """A sample's FASTA or FASTQ file, and the chunk length it is cut with."""
        return dg.DataVersionsByPartition(_by_sample("sample_file", store, models))

    @dg.observable_source_asset(partitions_def=samples, group_name=_GROUP)
    def sample_head(store: Store, models: Models) -> dg.DataVersionsByPartition:
        """The head that calls a sample: its own, or the deployment's."""
        return dg.DataVersionsByPartition(_by_sample("sample_head", store, models))

    @dg.observable_source_asset(group_name=_GROUP)
    def esm2_weights(models: Models) -> dg.DataVersion:
        """ESM-2's weights, and the precision they are used in."""
        return dg.DataVersion(versions.weights_version("esm2", models.as_settings()))

    @dg.observable_source_asset(group_name=_GROUP)
    def dnabert_s_weights(models: Models) -> dg.DataVersion:
        """DNABERT-S's weights, and the precision they are used in."""
        return dg.DataVersion(versions.weights_version("dnabert-s", models.as_settings()))


def sample_versions(
    layout: Layout, models: settings.Models, registered: Iterable[Sample]
) -> dict[Source, str]:
    """Versions of the files and heads of `registered` samples as they are now.

    A sample whose file is gone has none of that file: what was made from it stays.
    """
    head_version = cache(lambda head: versions.head_version(layout, head))
    found: dict[Source, str] = {}
    for sample in registered:
        if (version := versions.file_version(sample, models)) is not None:
            found["sample_file", sample.name] = version
        found["sample_head", sample.name] = head_version(
            pipeline.sample_models(sample, models).head
        )
    return found


def weights_versions(models: settings.Models) -> dict[Source, str]:
    """Versions of the encoders' weights as they are now."""
    return {
        ("esm2_weights", None): versions.weights_version("esm2", models),
        ("dnabert_s_weights", None): versions.weights_version("dnabert-s", models),
    }


def observed_versions(instance: dg.DagsterInstance) -> dict[Source, str]:
    """Version of every source as it was last observed."""
    found: dict[Source, str] = {}
    for asset in ("sample_file", "sample_head"):
        tags = instance.event_log_storage.get_latest_tags_by_partition(
            dg.AssetKey(asset), dg.DagsterEventType.ASSET_OBSERVATION, [DATA_VERSION_TAG]
        )
        found.update({(asset, sample): tag[DATA_VERSION_TAG] for sample, tag in tags.items()})
    for asset in ("esm2_weights", "dnabert_s_weights"):
        for record in instance.fetch_observations(dg.AssetKey(asset), limit=1).records:
            if record.asset_observation is not None:
                found[asset, None] = record.asset_observation.tags[DATA_VERSION_TAG]
    return found


def observations(found: Mapping[Source, str]) -> list[dg.AssetObservation]:
    """The events that say which versions were found."""
    return [
        dg.AssetObservation(asset, partition=sample, tags={DATA_VERSION_TAG: version})
        for (asset, sample), version in found.items()
    ]


def add_samples(
    instance: dg.DagsterInstance,
    layout: Layout,
    models: settings.Models,
    registered: Sequence[Sample],
) -> None:
    """Make registered samples partitions of `instance`, their sources observed first.

    What is observed only after it was used looks like a change to automation.
    """
    make_pool_known(instance)
    found = {**weights_versions(models), **sample_versions(layout, models, registered)}
    for observation in observations(found):
        instance.report_runless_asset_event(observation)
    instance.add_dynamic_partitions(str(samples.name), [sample.name for sample in registered])


def _by_sample(asset: str, store: Store, models: Models) -> dict[str, str | dg.DataVersion]:
    found = sample_versions(store.layout, models.as_settings(), all_samples(store.layout))
    return {sample: version for (of, sample), version in found.items() if of == asset and sample}
