"""What `virnuc gc` removes, and above all what it leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virnuc_assets import pipeline
from virnuc_assets.classifier.head import load_head
from virnuc_assets.classifier.predict import classify
from virnuc_assets.encoders import catalog
from virnuc_assets.garbage.plan import (
    Embedded,
    EncoderFolder,
    Found,
    Made,
    SampleFiles,
    Wanted,
    unneeded,
)
from virnuc_assets.garbage.sweep import Sweep, sweep
from virnuc_assets.inspection import inspect
from virnuc_assets.runner.events import Event
from virnuc_assets.runner.identity import Digests, block_file, block_identity
from virnuc_assets.runner.job import Job
from virnuc_assets.runner.plan import Block
from virnuc_assets.runner.resume import find_finished_blocks, finished_shard, plan_shards
from virnuc_assets.sequences.index import build_index
from virnuc_assets.settings import ENCODERS, Models, Settings
from virnuc_assets.store.embeddings import (
    Counts,
    Identity,
    Origin,
    block_path,
    shard_path,
    shard_rows,
    write_embeddings,
)
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.lock import sole_writer
from virnuc_assets.store.samples import register
from virnuc_assets.store.shard_locks import LOCKS, own_shards
from virnuc_assets.store.sharded import ShardedEmbeddings
from virnuc_assets.store.view import renew_view
from virnuc_assets_tests import untrained

N_SHARDS = 2
DAY = 86_400
DIMS = {"dnabert-s": 48, "esm2": 64}
ORIGIN = Origin("untrained", "w" * 64, "CPU", "sdpa", "plain", 64, "truncate")
MODELS = Models(
    esm2=str(untrained.folder() / "esm2"),
    dnabert_s=str(untrained.folder() / "dnabert_s"),
    head=str(untrained.folder() / "head"),
    dtype="float32",
)
FASTA = "".join(f">r{i}\nATG{'GCTAAAGGTCGT' * (i + 3)}\n" for i in range(5))


def deployment(root: Path) -> Settings:
    return Settings(root, N_SHARDS, MODELS)


@cache
def digests(encoder: str) -> Digests:
    weights = catalog.weights_digest(
        catalog.resolve_weights(encoder, MODELS.encoding(encoder).weights)
    )
    return Digests(weights, catalog.encoder_digest(encoder, weights, "truncate"))


@dataclass(frozen=True)
class Sample:
    """A sample of a store, and how its files are made."""

    layout: Layout
    name: str
    index_digest: str
    rows: dict[str, int]

    def folder(self, encoder: str) -> Path:
        return self.layout.embeddings(self.name, encoder)

    def identity(self, encoder: str, shard: int, n_shards: int = N_SHARDS) -> Identity:
        stop = shard_rows(self.rows[encoder], shard, n_shards)
        encoder_digest = digests(encoder).encoder
        return Identity(
            encoder, self.index_digest, encoder_digest, "float32", n_shards, shard, 0, stop
        )

    def write_shard(self, encoder: str, shard: int, n_shards: int = N_SHARDS, **other) -> Path:
        identity = replace(self.identity(encoder, shard, n_shards), **other)
        path = shard_path(self.folder(encoder), shard, n_shards)
        return write(path, identity, DIMS[encoder])

    def write_block(self, encoder: str, block: Block, **other) -> Path:
        job = self.job(encoder)
        identity = replace(block_identity(job, digests(encoder), block), **other)
        return write(block_file(job, block), identity, DIMS[encoder])

    def job(self, encoder: str) -> Job:
        encoding = replace(MODELS.encoding(encoder), devices=("cpu",))
        job = pipeline.embedding_job(self.layout, self.name, encoding, N_SHARDS, (0, 1))
        return replace(job, block_sequences=3).resolved()

    def predict(self) -> None:
        index = self.layout.index(self.name)
        opened = {
            encoder: ShardedEmbeddings(
                self.folder(encoder), N_SHARDS, self.rows[encoder], self.index_digest
            )
            for encoder in ENCODERS
        }
        provenance = {"model": "untrained", "index_digest": self.index_digest}
        for encoder, embeddings in opened.items():
            prefix = encoder.replace("-", "_")
            provenance[f"{prefix}_encoder_digest"] = embeddings.identity.encoder_digest
            provenance[f"{prefix}_dtype"] = embeddings.identity.dtype
        head = load_head(untrained.folder() / "head")
        results = self.layout.predictions(self.name)
        classify(index, opened["dnabert-s"], opened["esm2"], head, results, provenance)

    def to_do(self) -> dict[str, tuple[list[int], list[list[int]]]]:
        """What a run would find finished: shards, and blocks of each of the others."""
        found = {}
        for encoder in ENCODERS:
            job = self.job(encoder)
            shards = plan_shards(job)
            done = [
                number
                for number, shard in shards.items()
                if finished_shard(job, digests(encoder), shard, number, unheard) is not None
            ]
            for number in set(shards) - set(done):
                find_finished_blocks(job, digests(encoder), shards[number], unheard)
            found[encoder] = (done, [sorted(shard.files) for shard in shards.values()])
        return found


def unheard(event: Event) -> None:
    """Warnings about files that are made again."""


def write(path: Path, identity: Identity, dim: int) -> Path:
    values = np.random.default_rng(identity.stop).normal(size=(identity.stop - identity.start, dim))
    write_embeddings(path, identity, ORIGIN, Counts(), dim, [values.astype(np.float32)])
    return path


def sample_in(root: Path, name: str) -> Sample:
    layout = Layout(root)
    manifest = pipeline.read_manifest(layout.index(name))
    rows = {"dnabert-s": manifest.unique_nucleotides, "esm2": manifest.unique_proteins}
    return Sample(layout, name, manifest.index_digest, rows)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def gone(found: Sweep, root: Path) -> dict[str, str]:
    return {str(item.path.relative_to(root)): item.why for item in found.unneeded}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A store of one sample, embedded and called, with nothing to spare."""
    root = tmp_path_factory.mktemp("store")
    layout = Layout(root)
    fasta = root / "inbox" / "s.fa"
    fasta.parent.mkdir()
    fasta.write_text(FASTA)
    register(layout, "s", fasta)
    build_index(fasta, layout.index("s"), 500, tool_version="0")
    sample = sample_in(root, "s")
    for encoder in ENCODERS:
        for shard in range(N_SHARDS):
            sample.write_shard(encoder, shard)
        renew_view(sample.folder(encoder), N_SHARDS, {})
        (sample.folder(encoder) / "run.json").write_text("{}")
        with own_shards(sample.folder(encoder), N_SHARDS, range(N_SHARDS)):
            pass  # its locks stay there
    sample.predict()
    return root


@pytest.fixture
def store(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "store")


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


DEAD = dead_process()


def test_a_store_with_nothing_to_spare_is_left_as_it_is(store):
    before = contents(store)
    assert sweep(deployment(store), least_age=0, delete=True) == Sweep((), ())
    assert contents(store) == before


def test_what_is_unneeded_is_named_with_its_size_and_removed_only_if_wanted(store):
    sample = sample_in(store, "s")
    old = sample.write_shard("esm2", 0, n_shards=3)
    before = contents(store)
    found = sweep(deployment(store), least_age=0)
    (item,) = found.unneeded
    assert (item.path, item.bytes) == (old, old.stat().st_size)
    assert item.why == "one of 3 shards, and 2 are set"
    assert contents(store) == before
    assert sweep(deployment(store), least_age=0, delete=True) == found
    del before[str(old.relative_to(store))]
    assert contents(store) == before


def test_a_store_without_locks_is_not_written_to_and_stays_as_old_as_it_is(store):
    Layout(store).sample("s").unlink()
    for locks in store.rglob(LOCKS):
        shutil.rmtree(locks)
    long_ago = time.time() - 2 * DAY
    for path in (store, *store.rglob("*")):
        os.utime(path, (long_ago, long_ago))
    there = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    found = sweep(deployment(store), least_age=DAY)
    assert len(found.unneeded) == 2
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == there
    assert sweep(deployment(store), least_age=DAY, delete=True) == found


def test_what_was_written_lately_stays(store):
    old = sample_in(store, "s").write_shard("esm2", 0, n_shards=3)
    assert sweep(deployment(store), least_age=DAY, delete=True) == Sweep((), ())
    an_hour_ago = time.time() - 3600
    os.utime(old, (an_hour_ago, an_hour_ago))
    assert len(sweep(deployment(store), least_age=1800).unneeded) == 1


def test_embeddings_of_other_weights_go_and_those_that_the_results_were_made_from_stay(store):
    sample = sample_in(store, "s")
    other = {"encoder_digest": "o" * 64}
    for shard in range(3):
        sample.write_shard("esm2", shard, n_shards=3, **other)
    found = gone(sweep(deployment(store), 0), store)
    assert set(found.values()) == {"made with other weights than those set"}
    assert len(found) == 3
    results = sample.layout.predictions("s") / "results.json"
    said = json.loads(results.read_text())
    said["provenance"]["esm2_encoder_digest"] = other["encoder_digest"]
    results.write_text(json.dumps(said))
    assert gone(sweep(deployment(store), 0), store) == {}
    shard_path(sample.folder("esm2"), 1, 3).unlink()  # no results can be made from the rest
    assert len(gone(sweep(deployment(store), 0), store)) == 2


def test_a_view_goes_with_what_it_shows(store):
    sample = sample_in(store, "s")
    view = sample.folder("esm2") / "view.h5"
    for shard in range(3):
        sample.write_shard("esm2", shard, n_shards=3)
    renew_view(view.parent, 3, {})
    found = sweep(deployment(store), 0, delete=True)
    assert found.unneeded[0].path == view
    assert len(found.unneeded) == 4
    assert not view.exists()


def test_either_precision_of_auto_is_current(store):
    sample = sample_in(store, "s")
    sample.write_shard("esm2", 0, dtype="float16")
    sample.write_shard("esm2", 1, dtype="bfloat16")
    (sample.folder("esm2") / "view.h5").unlink()
    automatic = replace(deployment(store), models=replace(MODELS, dtype="auto"))
    assert gone(sweep(automatic, 0), store) == {
        "samples/s/embeddings/esm2/shard-01-of-02.h5": "made in bfloat16, and float16 or float32 "
        "is set"
    }


def test_a_renewed_index_leaves_the_old_embeddings_behind(store):
    fasta = store / "inbox" / "s.fa"
    fasta.write_text(FASTA + ">more\nATGGCTGCTAAAGGT\n")
    build_index(fasta, Layout(store).index("s"), 500, tool_version="0")
    found = gone(sweep(deployment(store), 0, delete=True), store)
    assert sorted(set(found.values())) == ["made from an earlier index", "shows shards that go"]
    assert len(found) == 2 * (N_SHARDS + 1)
    assert inspect(Layout(store).index("s"), deep=True).faults == ()
    assert inspect(Layout(store).predictions("s"), deep=True).faults == ()


def test_a_sample_whose_results_cannot_be_read_is_left_alone(store):
    """What they were made from is not known then, and may be what the settings do not use."""
    sample = sample_in(store, "s")
    sample.write_shard("esm2", 0, n_shards=3)
    results = sample.layout.predictions("s") / "results.json"
    results.write_text("{")
    assert sweep(deployment(store), 0, delete=True) == Sweep((), ())
    results.unlink()
    assert len(sweep(deployment(store), 0).unneeded) == 1


def test_a_sample_without_a_readable_index_is_left_alone(store):
    (Layout(store).index("s") / "manifest.json").write_text("{}")
    assert sweep(deployment(store), 0, delete=True) == Sweep((), ())


def test_of_a_sample_that_is_no_longer_registered_the_results_stay(store):
    Layout(store).sample("s").unlink()
    found = gone(sweep(deployment(store), 0, delete=True), store)
    assert found == {
        "samples/s/index": "its sample is no longer registered",
        "samples/s/embeddings": "its sample is no longer registered",
    }
    assert not (store / "samples" / "s").exists()
    assert inspect(Layout(store).predictions("s"), deep=True).faults == ()
    assert (store / "inbox" / "s.fa").exists()


def test_temporary_files_go_once_their_process_is_gone(store):
    layout = Layout(store)
    (layout.heads / "h").mkdir(parents=True)
    folders = (
        *(store, layout.heads / "h", layout.index("s"), layout.predictions("s")),
        layout.embeddings("s", "esm2"),
    )
    for folder in folders:
        for process in (DEAD, os.getpid()):
            (folder / f".file.{process}.tmp").write_text("half")
    (layout.index("s") / ".building").mkdir()
    (layout.index("s") / ".building" / "frames.parquet").write_text("half")
    found = gone(sweep(deployment(store), 0, delete=True), store)
    assert set(found.values()) == {"left by a process that was ended"}
    assert len(found) == len(folders) + 1
    assert all((folder / f".file.{os.getpid()}.tmp").exists() for folder in folders)
    assert not any((folder / f".file.{DEAD}.tmp").exists() for folder in folders)
    assert not (layout.index("s") / ".building").exists()


@pytest.mark.parametrize(
    "folder",
    ["samples/s", "samples/s/index", "samples/s/embeddings/esm2", "predictions/s"],
)
def test_a_sample_that_somebody_writes_to_is_left_alone(folder, store):
    sample_in(store, "s").write_shard("esm2", 0, n_shards=3)
    with sole_writer(store / folder):
        assert sweep(deployment(store), 0, delete=True) == Sweep((), ("s",))
    assert len(sweep(deployment(store), 0, delete=True).unneeded) == 1


def test_a_sample_of_which_somebody_makes_a_shard_is_left_alone(store):
    sample = sample_in(store, "s")
    sample.write_shard("esm2", 0, n_shards=3)
    with own_shards(sample.folder("esm2"), N_SHARDS, [1]):
        assert sweep(deployment(store), 0, delete=True) == Sweep((), ("s",))
    assert len(sweep(deployment(store), 0, delete=True).unneeded) == 1


def test_missing_weights_are_said_before_anything_goes(store):
    sample_in(store, "s").write_shard("esm2", 0, n_shards=3)
    missing = replace(deployment(store), models=replace(MODELS, esm2="/none/esm2.pt"))
    with pytest.raises(catalog.WeightsError, match="no such weights"):
        sweep(missing, 0, delete=True)
    assert len(sweep(deployment(store), 0).unneeded) == 1


OTHER = st.sampled_from(
    [{"encoder_digest": "o" * 64}, {"dtype": "bfloat16"}, {"index_digest": "i" * 64}]
)
ENCODER = st.sampled_from(ENCODERS)
NUMBER = st.integers(0, 2)
CLUTTER = st.lists(
    st.one_of(
        st.tuples(st.just("shard of other n"), ENCODER, NUMBER),
        st.tuples(st.just("other shard of other n"), ENCODER, NUMBER, OTHER),
        st.tuples(st.just("shard in place"), ENCODER, st.integers(0, 1), OTHER),
        st.tuples(st.just("shard to blocks"), ENCODER, st.integers(0, 1), st.sets(NUMBER)),
        st.tuples(st.just("blocks beside"), ENCODER, st.integers(0, 1), NUMBER),
        st.tuples(st.just("other block"), ENCODER, st.integers(0, 1), NUMBER, OTHER),
        st.tuples(st.just("piece"), ENCODER, st.integers(0, 1)),
        st.tuples(st.just("temporary"), st.sampled_from(["samples/s/index", "predictions/s"])),
        st.tuples(st.just("damaged"), ENCODER, NUMBER),
        st.tuples(st.just("no results")),
        st.tuples(st.just("unregistered sample")),
    ),
    max_size=8,
)


def clutter(root: Path, thing: tuple) -> None:
    """Leave in the store what runs by other settings, and runs that were ended, leave."""
    sample = sample_in(root, "s")
    match thing:
        case ("shard of other n", encoder, shard):
            sample.write_shard(encoder, shard, n_shards=3)
        case ("other shard of other n", encoder, shard, other):
            sample.write_shard(encoder, shard, n_shards=3, **other)
        case ("shard in place", encoder, shard, other):
            sample.write_shard(encoder, shard, **other)
            (sample.folder(encoder) / "view.h5").unlink(missing_ok=True)
        case ("shard to blocks", encoder, shard, numbers):
            shard_path(sample.folder(encoder), shard, N_SHARDS).unlink(missing_ok=True)
            (sample.folder(encoder) / "view.h5").unlink(missing_ok=True)
            blocks = plan_shards(sample.job(encoder))[shard].blocks
            for number in numbers & set(range(len(blocks))):
                sample.write_block(encoder, blocks[number])
        case ("blocks beside", encoder, shard, number):
            blocks = plan_shards(sample.job(encoder))[shard].blocks
            sample.write_block(encoder, blocks[min(number, len(blocks) - 1)])
        case ("other block", encoder, shard, number, other):
            blocks = plan_shards(sample.job(encoder))[shard].blocks
            sample.write_block(encoder, blocks[min(number, len(blocks) - 1)], **other)
        case ("piece", encoder, shard):
            sample.write_block(encoder, Block(shard, 0, 0, 1, 9, whole=False))
        case ("temporary", folder):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / f".x.{DEAD}.tmp").write_text("half")
        case ("damaged", encoder, number):
            path = block_path(sample.folder(encoder), 1, N_SHARDS, number)
            path.parent.mkdir(exist_ok=True)
            path.write_text("no HDF5")
        case ("no results",):
            shutil.rmtree(sample.layout.predictions("s"), ignore_errors=True)
        case ("unregistered sample",):
            for part in ("index", "embeddings"):
                shutil.copytree(
                    root / "samples" / "s" / part, root / "samples" / "t" / part, dirs_exist_ok=True
                )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(things=CLUTTER)
def test_whatever_lies_about_current_results_stay_whole_and_go_on_where_they_were(
    things, whole, tmp_path_factory
):
    root = shutil.copytree(whole, tmp_path_factory.mktemp("gc") / "store")
    for thing in things:
        clutter(root, thing)
    sample = sample_in(root, "s")
    kept = [sample.layout.index("s"), sample.layout.predictions("s")]
    views = [sample.folder(encoder) / "view.h5" for encoder in ENCODERS]
    before = {path: inspect(path, deep=True) for path in (*kept, *views)}
    other_files = {
        name: data
        for name, data in contents(root).items()
        if not name.startswith("samples/") and not name.endswith(".tmp")
    }

    # What the run would reuse, looked up in a copy because looking tidies up.
    copied = shutil.copytree(root, root.with_name("copy"))
    to_do = sample_in(copied, "s").to_do()

    found = sweep(deployment(root), 0, delete=True)

    assert {name: (root / name).read_bytes() for name in other_files} == other_files
    assert {path: inspect(path, deep=True) for path in kept} == {p: before[p] for p in kept}
    for view in views:
        if view.exists():
            assert inspect(view, deep=True) == before[view]
    assert sweep(deployment(root), 0) == Sweep((), ())
    assert all(not item.path.exists() for item in found.unneeded)
    assert sample.to_do() == to_do


def test_the_command_lists_first_and_removes_when_told(virnuc, store):
    sample = sample_in(store, "s")
    for shard in range(3):
        sample.write_shard("esm2", shard, n_shards=3)
    environment = {"VIRNUC_STORE": str(store), "VIRNUC_SHARDS": "2", "VIRNUC_DTYPE": "float32"}
    shards = "samples/s/embeddings/esm2/shard-0*-of-03.h5"

    kept = virnuc("gc", **environment)
    assert (kept.returncode, kept.stdout) == (0, "nothing that no current result needs\n")
    assert "current is what untrained give in 2 shards" in kept.stderr

    listed = virnuc("gc", "--older-than", 0, **environment)
    assert listed.returncode == 0
    row = r"^samples/s/embeddings/esm2/ +3 +\S+ kB +one of 3 shards, and 2 are set$"
    assert re.search(row, listed.stdout, re.MULTILINE), listed.stdout
    assert "nothing was removed: virnuc gc --delete does that" in listed.stdout
    assert len(list(store.glob(shards))) == 3

    removed = virnuc("gc", "--delete", "--older-than", 0, **environment)
    assert removed.returncode == 0
    assert re.search(row, removed.stdout, re.MULTILINE)
    assert re.search(r"^\S+ kB freed$", removed.stdout, re.MULTILINE)
    assert list(store.glob(shards)) == []


def test_models_half_chosen_are_refused(refused, store):
    sentence = refused("gc", "--delete", VIRNUC_STORE=str(store), VIRNUC_HEAD="")
    assert sentence.startswith("VIRNUC_ESM2, VIRNUC_DNABERT_S set, but not VIRNUC_HEAD")


MADE = st.builds(
    Made, st.sampled_from(["index", "old"]), st.sampled_from(["set", "other"]), st.just("float32")
)
PLACE = st.sampled_from([(n, shard) for n in (2, 3) for shard in range(n)])


@settings(max_examples=200, deadline=None)
@given(
    shards=st.dictionaries(PLACE, MADE),
    blocks=st.dictionaries(PLACE, MADE),
    used=st.none() | MADE,
    young=st.sets(PLACE),
)
def test_what_is_left_is_what_runs_reuse_and_what_results_were_made_from(
    shards, blocks, used, young
):
    def embedded(kind, place, made):
        n, shard = place
        file = Found(Path(kind, f"{shard}-of-{n}"), 1, 0 if place in young else DAY)
        return Embedded(file, made, shard, n)

    folder = EncoderFolder(
        shards=[embedded("shard", place, made) for place, made in shards.items()],
        blocks=[embedded("block", place, made) for place, made in blocks.items()],
    )
    files = SampleFiles(True, "index", {"esm2": folder}, {} if used is None else {"esm2": used})
    wanted = {"esm2": Wanted("set", ("float32",), 2)}

    def reusable(place, made):
        return place[0] == 2 and made == Made("index", "set", "float32")

    whole = [n for n in (2, 3) if all(shards.get((n, shard)) == used for shard in range(n))]
    needed = {place for place, made in shards.items() if reusable(place, made)}
    if used is not None and used.index_digest == "index" and whole:
        needed |= {(whole[0], shard) for shard in range(whole[0])}
    kept = {("shard", place) for place in shards if place in needed | young}
    finished = {place for place, made in shards.items() if reusable(place, made)}
    kept |= {
        ("block", place)
        for place, made in blocks.items()
        if place in young or (reusable(place, made) and place not in finished)
    }
    gone = {item.path for item in unneeded(files, wanted, least_age=1)}
    left = {
        (kind, place)
        for kind, places in (("shard", shards), ("block", blocks))
        for place in places
        if Path(kind, f"{place[1]}-of-{place[0]}") not in gone
    }
    assert left == kept
