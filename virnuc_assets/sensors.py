"""The inbox: a FASTA file dropped there becomes a sample."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dagster as dg

from virnuc_assets.errors import InputError
from virnuc_assets.jobs import index_samples
from virnuc_assets.partitions import samples
from virnuc_assets.resources import Store
from virnuc_assets.store.samples import is_sequence_file, register, sample_name


@dataclass(frozen=True)
class _Cursor:
    """File name → stamp: as seen on the last tick, and as last taken for a sample."""

    seen: dict[str, str] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)


@dg.sensor(
    name="inbox",
    job=index_samples,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def inbox_sensor(context: dg.SensorEvaluationContext, store: Store) -> dg.SensorResult:
    """Register every FASTA file that has stopped growing as a sample.

    A file counts as arrived when its size and modification time are the same on two ticks.
    Automation takes a new sample from there. A file that is rewritten later is indexed again here,
    and automation renews all that follows from it.
    """
    inbox = store.layout.inbox
    inbox.mkdir(parents=True, exist_ok=True)
    before = _Cursor(**json.loads(context.cursor or "{}"))
    files = {path.name: _stamp(path) for path in sorted(inbox.iterdir()) if _wanted(path)}
    settled = [
        name
        for name, stamp in files.items()
        if before.seen.get(name) == stamp and before.taken.get(name) != stamp
    ]
    known = set(context.instance.get_dynamic_partitions("sample"))
    taken = {name: stamp for name, stamp in before.taken.items() if name in files}
    requests: list[dg.RunRequest] = []
    new: list[str] = []
    for file in settled:
        sample = sample_name(Path(file))
        try:
            register(store.layout, sample, inbox / file)
        except InputError as error:
            # Told every tick until it is mended.
            context.log.error(str(error))
            continue
        context.log.info(f"{file} is sample {sample}")
        if sample in known:
            requests.append(dg.RunRequest(partition_key=sample, run_key=f"{sample}:{files[file]}"))
        else:
            new.append(sample)
        taken[file] = files[file]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[samples.build_add_request(new)] if new else [],
        cursor=json.dumps(asdict(_Cursor(seen=files, taken=taken))),
    )


def _wanted(path: Path) -> bool:
    return is_sequence_file(path) and path.is_file()


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"
