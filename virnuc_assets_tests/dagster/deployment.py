"""A deployment of one's own: a store, a real Dagster instance, and the definitions on them."""

from dataclasses import asdict

import dagster as dg

from virnuc_assets.assets.sources import add_samples
from virnuc_assets.definitions import build_defs
from virnuc_assets.partitions import N_SHARDS, RANGE_END, RANGE_START
from virnuc_assets.resources import Models, Store
from virnuc_assets.sensors.sources import sources_sensor
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.samples import register

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# An open reading frame each way, and a record whose every frame has a stop codon.
FASTA = """\
>first a description
ATGGCTAAAGGTGCTGCTCGTAAACGTGCTGGTGCTAAAGGTGCTGCTCGTAAACGTGCTGGT
>second
ATGCGTGGTGCTGCTGGTCGTGCTAAAGCTGGTCGTCGTGCTGCTGGTAAAGCTGGTGGTCGTGCT
>closed
TAACTAACTAACTAACTAACTTAGTTAGTTAGTTAGTTAG
"""


class Deployment:
    """A store and a real Dagster instance of its own, and the definitions on them."""

    def __init__(self, root, instance):
        self.root = root
        self.layout = Layout(root / "store")
        self.instance = instance
        self.watched = None
        self.configure(from_environment().models)

    def configure(self, models):
        """From now on, run with these models (a `settings.Models`)."""
        self.models = models
        self.defs = build_defs(self.resources())

    def resources(self):
        fields = {**asdict(self.models), "gpus": list(self.models.gpus)}
        return {"store": Store(root=str(self.layout.root)), "models": Models(**fields)}

    def add(self, name, text=FASTA, **own):
        """Add a sample, or add it again with its file as it is; `own`: its chunk length, head."""
        fasta = self.root / f"{name}.fa"
        if text is not None:
            fasta.write_text(text)
        sample = register(self.layout, name, fasta, **own)
        add_samples(self.instance, self.layout, self.models, [sample])
        return fasta

    def observe(self, ticks=2):
        """Tick the sensor that watches sources; by two ticks it has seen all that changed."""
        for _ in range(ticks):
            context = dg.build_sensor_context(
                instance=self.instance,
                cursor=self.watched,
                resources=self.resources(),
                definitions=self.defs,
            )
            result = sources_sensor(context)
            self.watched = result.cursor
            self.apply(result)

    def apply(self, result):
        """Do what a sensor's result asks for, in the daemon's order."""
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions("sample", list(request.partition_keys))

    def execute(self, job, **options):
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, run_config=QUIET, raise_on_error=False, **options
        )

    def index(self, name):
        return self.execute("index_samples", partition_key=name)

    def embed(self, name, first=0, last=N_SHARDS - 1, assets=None):
        selection = assets and [dg.AssetKey(asset) for asset in assets]
        tags = {RANGE_START: f"{name}|{first}", RANGE_END: f"{name}|{last}"}
        return self.execute("embed_samples", tags=tags, asset_selection=selection)

    def predict(self, name, assets=None):
        selection = assets and [dg.AssetKey(asset) for asset in assets]
        return self.execute("predict_samples", partition_key=name, asset_selection=selection)

    def materialised(self, asset):
        return set(self.instance.get_materialized_partitions(dg.AssetKey(asset)))


def failure_sentence(result):
    """The description of the run's only failure."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None, event
    return event.step_failure_data.user_failure_data.description


def metadata(result, asset):
    """Metadata of each materialisation of `asset` in a run, by partition."""
    return {
        event.partition: {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(asset)
    }
