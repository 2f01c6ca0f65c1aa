"""Labelled FASTA → a classifier head with its metrics and card."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import dagster as dg
from pydantic import Field

from virnuc_assets import __version__
from virnuc_assets.assets.embedding import GPU_POOL, EventLogger, launched
from virnuc_assets.assets.failures import explained
from virnuc_assets.errors import RunnerError
from virnuc_assets.partitions import N_SHARDS
from virnuc_assets.resources import Models, Store
from virnuc_assets.runner.events import Failed
from virnuc_assets.runner.job import Job
from virnuc_assets.settings import Settings


class HeadConfig(dg.Config):
    """What a head is trained on, and what it is called."""

    name: str = Field(description="Name of the head: VIRNUC_HEAD=NAME uses it.")
    manifest: str = Field(description="Path of a table of labelled files (docs/train_a_head.md).")
    records: str | None = Field(default=None, description="Path of a table of their records.")
    mask: str | None = Field(default=None, description="Path of a table of doubtful negatives.")
    seed: int = 0
    learning_curve: bool = False


# It runs when a person asks for it: it has no automation condition.
@dg.asset(pool=GPU_POOL, code_version=__version__, group_name="training", kinds={"torch"})
def classifier_head(
    context: dg.AssetExecutionContext, config: HeadConfig, store: Store, models: Models
) -> dg.MaterializeResult:
    """A head trained on the embeddings that the deployment's encoders give of labelled files."""
    from virnuc_assets.train_head import Recipe, make_head
    from virnuc_assets.training.head_scores import headline
    from virnuc_assets.training.head_training import TrainingSettings
    from virnuc_assets.training.labelled import read_labelled

    layout = store.layout
    settings = Settings(layout.training(config.name), N_SHARDS, models.as_settings())
    with explained():
        recipe = Recipe(
            name=config.name,
            labelled=read_labelled(
                Path(config.manifest), None if config.records is None else Path(config.records)
            ),
            chunk_lengths=(models.chunk_length,),
            mask=None if config.mask is None else Path(config.mask),
            learning_curve=config.learning_curve,
            training=TrainingSettings(seed=config.seed),
        )
        folder = layout.heads / config.name
        head = make_head(recipe, settings, folder, _embed(context), context.log.info)
    (test,) = headline(head.metrics).filter(part="test").iter_rows(named=True)
    measured = ("n", "n_virus", "auroc", "auprc", "mcc", "recall_at_1_percent_fpr", "ece")
    return dg.MaterializeResult(
        metadata={
            **{f"test_{name}": test[name] for name in measured if test[name] is not None},
            "temperature": head.temperature,
            "head_digest": head.digest,
            **{name.replace(" ", "_"): value for name, value in head.provenance.items()},
            "card": dg.MetadataValue.md(head.text),
            "folder": dg.MetadataValue.path(str(folder)),
        }
    )


def _embed(context: dg.AssetExecutionContext) -> Callable[[Job, str], None]:
    def embed(job: Job, title: str) -> None:
        logger = EventLogger(context, title)
        failures: list[str] = []
        # Closed here and now when the run is terminated, not when garbage is collected.
        with closing(launched(context, [job])) as events:
            for _, event in events:
                logger.log(event)
                if isinstance(event, Failed):
                    failures.append(event.message)
        if failures:
            raise RunnerError(failures[0])

    return embed
