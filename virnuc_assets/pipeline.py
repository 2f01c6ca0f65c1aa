"""The stages of a sample as plain functions: what the assets and the CLI both call.

Here: which files of a store feed which stage. Not here: Dagster, progress bars, arguments. What
computes is imported where it is called: every Dagster process imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from virnuc_assets import __version__
from virnuc_assets.classifier.head_files import CARD_FILE, HeadCard, read_card
from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import StoreError, WeightsError
from virnuc_assets.runner.job import Encoding, Job
from virnuc_assets.sequences.folder import kept_as_it_is
from virnuc_assets.sequences.manifest import (
    NUCLEOTIDES_FILE,
    PROTEINS_FILE,
    IndexManifest,
    read_manifest,
)
from virnuc_assets.settings import Models
from virnuc_assets.store.digests import shards_digest
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.lock import sole_writer
from virnuc_assets.store.samples import Sample, registered

if TYPE_CHECKING:
    from collections.abc import Callable

    from virnuc_assets.classifier.predict import PredictionSummary
    from virnuc_assets.ray_index import Begin, Indexed
    from virnuc_assets.store.sharded import ShardedEmbeddings


@dataclass(frozen=True)
class SampleEmbeddings:
    """Both encoders' embeddings of one sample, checked to belong to its index."""

    dna: ShardedEmbeddings
    protein: ShardedEmbeddings


@dataclass(frozen=True)
class TableFacts:
    """What an index's manifest says of one of its two sequence tables."""

    file: str
    rows: int
    sha256: str


def sequence_table(manifest: IndexManifest, encoder: EncoderName) -> TableFacts:
    """The table an encoder embeds: nucleotides for DNABERT-S, proteins for ESM-2."""
    if encoder == "dnabert-s":
        return TableFacts(
            NUCLEOTIDES_FILE, manifest.unique_nucleotides, manifest.nucleotides_sha256
        )
    return TableFacts(PROTEINS_FILE, manifest.unique_proteins, manifest.proteins_sha256)


def sample_models(sample: Sample, models: Models) -> Models:
    """The deployment's `models` with what is `sample`'s own."""
    return replace(
        models,
        chunk_length=sample.chunk_length or models.chunk_length,
        head=sample.head or models.head,
    )


def index_sample(layout: Layout, name: str, chunk_length: int) -> IndexManifest:
    """Make a registered sample's sequence index; cut as the sample says, or else `chunk_length`.

    Raises:
        InputError: the sample is unknown, or its file cannot be used.
    """
    from virnuc_assets.sequences.index import build_index

    sample = registered(layout, name)
    return build_index(
        Path(sample.source),
        layout.index(name),
        sample.chunk_length or chunk_length,
        tool_version=__version__,
    )


def begin_index(
    begin: Begin, layout: Layout, name: str, chunk_length: int
) -> Callable[[], Indexed]:
    """Begin to make a registered sample's index as `index_sample` does, by `begin`.

    Raises:
        InputError: the sample is unknown.
    """
    sample = registered(layout, name)
    return begin(Path(sample.source), layout.index(name), sample.chunk_length or chunk_length)


def index_there(folder: Path, fasta: Path, chunk_length: int) -> IndexManifest | None:
    """The manifest of the index in `folder`, if it is of this file, cut this way, by this version.

    Its tables are not trusted either: the runner checks their digests.
    """
    from virnuc_assets.sequences.input_file import identify

    try:
        manifest = read_manifest(folder)
    except StoreError:
        return None
    made_from = (manifest.chunk_length, manifest.tool_version, manifest.input_sha256)
    wanted = (chunk_length, __version__, identify(fasta).sha256)
    return manifest if made_from == wanted else None


def embedding_job(
    layout: Layout, name: str, encoding: Encoding, n_shards: int, shards: tuple[int, ...]
) -> Job:
    """The job that embeds `shards` of a sample with one encoder.

    Raises:
        StoreError: the sample has no index yet.
    """
    index = layout.index(name)
    manifest = read_manifest(index)
    table = sequence_table(manifest, encoding.encoder)
    return Job(
        encoding=encoding,
        sequences=str(index / table.file),
        sequences_sha256=table.sha256,
        index_digest=manifest.index_digest,
        output=str(layout.embeddings(name, encoding.encoder)),
        n_shards=n_shards,
        shards=shards,
    )


def open_embeddings(layout: Layout, name: str, n_shards: int) -> SampleEmbeddings:
    """Open every shard of a sample, checked against its index and each other.

    Raises:
        StoreError: a shard is missing or belongs to another index or encoder.
    """
    from virnuc_assets.store.sharded import ShardedEmbeddings

    manifest = read_manifest(layout.index(name))

    def of(encoder: EncoderName) -> ShardedEmbeddings:
        rows = sequence_table(manifest, encoder).rows
        return ShardedEmbeddings(
            layout.embeddings(name, encoder), n_shards, rows, manifest.index_digest
        )

    return SampleEmbeddings(dna=of("dnabert-s"), protein=of("esm2"))


def predict_sample(layout: Layout, name: str, n_shards: int, models: Models) -> PredictionSummary:
    """Score a sample's frames with its own head, or that of `models`, and write its results.

    Raises:
        StoreError: an index or a shard is missing, they do not belong together, or they were made
            with other settings than `models`.
        WeightsError: the head is missing or does not fit the embeddings.
    """
    from virnuc_assets.classifier.head import load_head
    from virnuc_assets.classifier.predict import classify

    models = sample_models(registered(layout, name), models)
    head = load_head(head_folder(layout, models.head))
    index, results = layout.index(name), layout.predictions(name)
    # Neither the index nor the results change hands while frames are paired with embeddings.
    with kept_as_it_is(index), sole_writer(results):
        manifest = read_manifest(index)
        if manifest.chunk_length != models.chunk_length:
            raise StoreError(
                f"{index}: is cut into chunks of {manifest.chunk_length}, and the settings say "
                f"{models.chunk_length}; materialise the index again, or set VIRNUC_CHUNK_LENGTH"
            )
        check_chunk_length(head.card, manifest.chunk_length)
        embeddings = open_embeddings(layout, name, n_shards)
        _check_encoder("dnabert-s", embeddings.dna, name, models)
        _check_encoder("esm2", embeddings.protein, name, models)
        dna, protein = embeddings.dna.origin, embeddings.protein.origin
        provenance = {
            "model": model_label(protein.model, dna.model, head.card.label),
            "sample": name,
            "tool_version": __version__,
            "input_sha256": manifest.input_sha256,
            "index_digest": manifest.index_digest,
            "chunk_length": str(manifest.chunk_length),
            "head_digest": head.digest,
            **_provenance("dnabert-s", embeddings.dna),
            **_provenance("esm2", embeddings.protein),
        }
        return classify(index, embeddings.dna, embeddings.protein, head, results, provenance)


def check_models(layout: Layout, models: Models) -> None:
    """Check, before anything is embedded, that encoders and head are there and fit together.

    Raises:
        WeightsError: weights or head are missing, or do not fit.
    """
    card = read_card(head_folder(layout, models.head))
    check_chunk_length(card, models.chunk_length)
    dims: dict[EncoderName, int] = {"dnabert-s": card.dna_dim, "esm2": card.protein_dim}
    for encoder, wanted in dims.items():
        weights = catalog.resolve_weights(encoder, models.encoding(encoder).weights)
        dim = catalog.embedding_dim(weights)
        if dim not in (None, wanted):
            raise WeightsError(
                f"head {card.name}: takes {encoder} embeddings of {wanted} dimensions and "
                f"{weights.label} gives {dim}; use the encoder it was trained with or another head"
            )


def check_chunk_length(card: HeadCard, chunk_length: int) -> None:
    """Refuse to use a head on chunks of another length than it was trained on.

    Raises:
        WeightsError: the lengths differ; a head that states none goes with any.
    """
    if card.chunk_length not in (None, chunk_length):
        raise WeightsError(
            f"head {card.name}: was trained on chunks of {card.chunk_length} bases and these are "
            f"of {chunk_length}; set the chunk length (VIRNUC_CHUNK_LENGTH) to "
            f"{card.chunk_length} or use another head"
        )


def model_label(esm2: str, dnabert_s: str, head: str) -> str:
    """What results say they were made with; a label that several parts share is said once."""
    return " + ".join(dict.fromkeys((dnabert_s, esm2, head)))


def head_folder(layout: Layout, head: str) -> Path:
    """The folder of a head given by name (an imported one) or by path.

    Raises:
        WeightsError: there is no such head.
    """
    for folder in (layout.heads / head, Path(head)):
        if (folder / CARD_FILE).is_file():
            read_card(folder)
            return folder
    known = sorted(path.parent.name for path in layout.heads.glob(f"*/{CARD_FILE}"))
    raise WeightsError(
        f"{head}: no such head; use a head's folder or one of the imported heads "
        f"({', '.join(known) or 'none yet: virnuc heads import FILE.pth'})"
    )


def _check_encoder(
    encoder: EncoderName, embeddings: ShardedEmbeddings, name: str, models: Models
) -> None:
    from virnuc_assets.store.agreement import refuse_what_disagrees

    refuse_what_disagrees(embeddings.files)
    encoding = models.encoding(encoder)
    weights = catalog.resolve_weights(encoder, encoding.weights)
    digest = catalog.encoder_digest(
        encoder, catalog.weights_digest(weights), encoding.long_sequences
    )
    if digest != embeddings.identity.encoder_digest:
        raise StoreError(
            f"sample {name}: its {encoder} embeddings were made with {embeddings.origin.model}, "
            f"and the settings say {weights.label} ({weights.path}); materialise the embeddings "
            "again, or set the weights they are of"
        )


def _provenance(encoder: EncoderName, embeddings: ShardedEmbeddings) -> dict[str, str]:
    prefix = catalog.PREFIXES[encoder]
    identity, origin = embeddings.identity, embeddings.origin
    return {
        f"{prefix}_model": origin.model,
        f"{prefix}_weights_digest": origin.weights_digest,
        f"{prefix}_encoder_digest": identity.encoder_digest,
        f"{prefix}_dtype": identity.dtype,
        f"{prefix}_attention": origin.attention,
        f"{prefix}_engine": origin.engine,
        f"{prefix}_device": origin.device,
        f"{prefix}_token_budget": str(origin.token_budget),
        f"{prefix}_shards_digest": shards_digest(file.checksum for file in embeddings.files),
    }
