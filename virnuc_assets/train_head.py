"""Labelled FASTA → a classifier head, its metrics, figures and card, in one resumable call.

The work lies in a folder that is laid out like a store. Its samples are pools of labelled files,
one for each chunk length, which go through the stages that any sample goes through; what an
earlier call indexed and embedded there is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch

from virnuc_assets import __version__, pipeline
from virnuc_assets.classifier.head import load_head
from virnuc_assets.classifier.head_files import HeadCard, save_head
from virnuc_assets.encoders import catalog
from virnuc_assets.errors import StoreError
from virnuc_assets.evaluation.mask import read_mask
from virnuc_assets.evaluation.metrics import balanced_weights
from virnuc_assets.runner.devices import CPU
from virnuc_assets.runner.job import Job
from virnuc_assets.sequences.chunks import check_chunk_length
from virnuc_assets.sequences.manifest import read_manifest
from virnuc_assets.settings import ENCODERS, Settings
from virnuc_assets.store.digests import sha256_file, sha256_json
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.lock import sole_writer
from virnuc_assets.store.samples import check_name, register
from virnuc_assets.training.calibration import fit_temperature, with_temperature
from virnuc_assets.training.features import EmbeddedSample, Features
from virnuc_assets.training.frames import NO_MASK, IndexedSample, labelled_frames
from virnuc_assets.training.head_folder import CARD_TEXT_FILE, write_head_folder
from virnuc_assets.training.head_scores import measure_parts, score_part
from virnuc_assets.training.head_training import TrainedHead, TrainingSettings, train_head
from virnuc_assets.training.labelled import SPLITS, LabelledFiles, LabelledRecord, Split
from virnuc_assets.training.learning_curve import learning_curve
from virnuc_assets.training.model_card import Facts, count_labels, model_card
from virnuc_assets.training.pooled_files import Pool, pool_files
from virnuc_assets.training.splits import complete_splits

_MEASURED: tuple[Split, ...] = ("test", "validation")


@dataclass(frozen=True)
class Recipe:
    """What to train on, and how."""

    name: str
    labelled: LabelledFiles
    chunk_lengths: tuple[int, ...]
    mask: Path | None = None
    """Table of intervals (record_id, start0, end) that are no sure negatives."""
    learning_curve: bool = False
    training: TrainingSettings = field(default_factory=TrainingSettings)


@dataclass(frozen=True)
class NewHead:
    """A head that was trained, and where it and what is known of it lie."""

    folder: Path
    card: HeadCard
    digest: str
    metrics: pl.DataFrame
    """Rows of `measure_parts`."""
    temperature: float
    text: str
    """The model card, markdown."""
    provenance: Mapping[str, str]


def make_head(
    recipe: Recipe,
    settings: Settings,
    folder: Path,
    embed: Callable[[Job, str], object],
    tell: Callable[[str], None],
) -> NewHead:
    """Train a head by `recipe` with the encoders of `settings` and write it to `folder`.

    Args:
        recipe: what to train on.
        settings: its store is the folder of the work; its head is not used.
        folder: gets `head.safetensors`, `head.json`, `metrics.json`, `model_card.md` and figures.
            An earlier head there is replaced, and is gone while the new one is written.
        embed: embeds a job's shards, given a title to show, and raises where it cannot.
        tell: is told what goes on.

    Raises:
        InputError: the labels or the labelled files cannot be used.
        WeightsError: an encoder is missing.
        StoreError: a folder cannot be written, or what lies in it cannot be used.
    """
    check_name(recipe.name)
    for length in recipe.chunk_lengths:
        check_chunk_length(length)
    for encoder in ENCODERS:
        catalog.resolve_weights(encoder, settings.models.encoding(encoder).weights)
    mask = NO_MASK if recipe.mask is None else read_mask(recipe.mask)
    layout = Layout(settings.store)
    with sole_writer(settings.store, tell):
        pools = pool_files(recipe.labelled, settings.store / "labelled", tell)
        given = [record for pool in pools for record in pool.records]
        records = complete_splits(given, recipe.training.seed, _MEASURED)
        samples = [
            _embed(layout, number, pool, length, settings, embed)
            for number, pool in enumerate(pools)
            for length in recipe.chunk_lengths
        ]
        embeddings = _open(layout, samples, settings.n_shards)
        features, n_set_aside = _features(layout, samples, embeddings, pools, records, mask)
        provenance = _provenance(recipe, pools, layout, samples, embeddings)
        training, validation = features.frames.part("train"), features.frames.part("validation")
        n_masked = _count_masked(features)
        tell(
            f"training on {len(training)} frames, validation on {len(validation)}; "
            f"{n_masked} more are masked, and {n_set_aside} could not be embedded"
        )
        device = "cpu" if settings.models.gpus == (CPU,) else "auto"
        trained = train_head(features, training, validation, recipe.training, device, tell)
        temperature = _temperature(features, validation, trained)
        weights = with_temperature(trained.weights, temperature)
        card = _card(recipe, features, provenance)
        # Written where it is wanted once it is measured, so that a head there has its metrics.
        draft = settings.store / "head"
        save_head(draft, card, weights)
        head = load_head(draft)
        scored = {part: score_part(features, part, head) for part in _MEASURED}
        curve = (
            learning_curve(features, training, validation, trained, recipe.training, device, tell)
            if recipe.learning_curve
            else []
        )
        facts = Facts(
            card=card,
            chunk_lengths=recipe.chunk_lengths,
            counts=count_labels(records, features.frames),
            masked_frames=n_masked,
            set_aside_frames=n_set_aside,
            drawn=tuple(part for part in _MEASURED if all(one.split != part for one in given)),
            settings=recipe.training,
            trained=trained,
            temperature=temperature,
            metrics=measure_parts(scored),
            curve=curve,
            provenance={**provenance, "head": head.digest},
        )
        text = model_card(facts)
        write_head_folder(folder, facts, scored, weights, text)
        return NewHead(folder, card, head.digest, facts.metrics, temperature, text, provenance)


@dataclass(frozen=True)
class _Sample:
    """A pool of labelled files (by number) cut into chunks of one length."""

    name: str
    pool: int
    chunk_length: int


def _embed(
    layout: Layout,
    number: int,
    pool: Pool,
    chunk_length: int,
    settings: Settings,
    embed: Callable[[Job, str], object],
) -> _Sample:
    name = f"{pool.fasta.stem}-{chunk_length}"
    register(layout, name, pool.fasta)
    if pipeline.index_there(layout.index(name), pool.fasta, chunk_length) is None:
        pipeline.index_sample(layout, name, chunk_length)
    shards = tuple(range(settings.n_shards))
    for encoder in ENCODERS:
        encoding = settings.models.encoding(encoder)
        job = pipeline.embedding_job(layout, name, encoding, settings.n_shards, shards)
        embed(job, f"{name}, {encoder}")
    return _Sample(name, number, chunk_length)


def _open(
    layout: Layout, samples: Sequence[_Sample], n_shards: int
) -> list[pipeline.SampleEmbeddings]:
    opened = [pipeline.open_embeddings(layout, sample.name, n_shards) for sample in samples]
    made_with = {
        (part.identity.encoder_digest, part.identity.dtype)
        for sample in opened
        for part in (sample.dna, sample.protein)
    }
    if len(made_with) > len(ENCODERS):
        raise StoreError(
            f"{layout.samples}: its samples were embedded by different encoders or in different "
            "precisions; delete the folder and start again"
        )
    return opened


def _features(
    layout: Layout,
    samples: Sequence[_Sample],
    embeddings: Sequence[pipeline.SampleEmbeddings],
    pools: Sequence[Pool],
    records: Sequence[LabelledRecord],
    mask: pl.DataFrame,
) -> tuple[Features, int]:
    """Features of the labelled frames, and how many frames could not be embedded."""
    first = np.cumsum([0, *(len(pool.records) for pool in pools)])
    indexed = [
        IndexedSample(
            index=layout.index(sample.name),
            chunk_length=sample.chunk_length,
            records=np.arange(first[sample.pool], first[sample.pool + 1]),
            set_aside=(opened.dna.set_aside, opened.protein.set_aside),
        )
        for sample, opened in zip(samples, embeddings, strict=True)
    ]
    frames = labelled_frames(indexed, records, mask)
    n_frames = sum(read_manifest(sample.index).frames for sample in indexed)
    parts = [EmbeddedSample(opened.dna, opened.protein) for opened in embeddings]
    return Features(frames, parts), n_frames - len(frames)


def _count_masked(features: Features) -> int:
    frames = features.frames
    return int(np.count_nonzero(frames.masked & (frames.split != SPLITS.index("test"))))


def _temperature(features: Features, validation: np.ndarray, trained: TrainedHead) -> float:
    is_virus = features.frames.is_virus[validation]
    weight = balanced_weights(features.frames.group[validation], is_virus)
    return fit_temperature(trained.validation_logits, is_virus, weight)


def _card(recipe: Recipe, features: Features, provenance: Mapping[str, str]) -> HeadCard:
    dna_dim, protein_dim = features.dims
    lengths = recipe.chunk_lengths
    return HeadCard(
        name=recipe.name,
        label=recipe.name,
        dna_dim=dna_dim,
        protein_dim=protein_dim,
        hidden_dim=recipe.training.hidden_dim,
        chunk_length=lengths[0] if len(lengths) == 1 else None,
        notes=f"Trained by virnuc {__version__} on embeddings of {provenance['dnabert-s model']} "
        f"and {provenance['esm2 model']}; see {CARD_TEXT_FILE}.",
    )


def _provenance(
    recipe: Recipe,
    pools: Sequence[Pool],
    layout: Layout,
    samples: Sequence[_Sample],
    embeddings: Sequence[pipeline.SampleEmbeddings],
) -> dict[str, str]:
    """Names and digests of all that went into a head.

    The labelled files and the indexes are each one digest: that of theirs in order, as JSON.
    """
    tables = [*recipe.labelled.tables, *([] if recipe.mask is None else [recipe.mask])]
    files = [file.sha256 for pool in pools for file in pool.files]
    indexes = [read_manifest(layout.index(sample.name)).index_digest for sample in samples]
    made: dict[str, str] = {
        "virnuc_assets": __version__,
        "torch": torch.__version__,
        **{f"table {table.name}": sha256_file(table) for table in tables},
        "labelled files": sha256_json(files),
        "indexes": sha256_json(indexes),
    }
    for encoder, opened in zip(ENCODERS, (embeddings[0].dna, embeddings[0].protein), strict=True):
        made |= {
            f"{encoder} model": opened.origin.model,
            f"{encoder} weights": opened.origin.weights_digest,
            f"{encoder} encoder": opened.identity.encoder_digest,
            f"{encoder} dtype": opened.identity.dtype,
            f"{encoder} engine": opened.origin.engine,
            f"{encoder} device": opened.origin.device,
        }
    return made
