"""Removing what no current result needs, sample by sample, while nobody writes to it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from virnuc_assets.encoders import catalog
from virnuc_assets.encoders.catalog import EncoderName
from virnuc_assets.errors import StoreError
from virnuc_assets.garbage.listing import folders_of, look, shard_folders_of, temporaries_in
from virnuc_assets.garbage.plan import SampleFiles, Unneeded, Wanted, unneeded
from virnuc_assets.settings import ENCODERS, Settings
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.shard_locks import folder_if_free

# `auto` is the one on a GPU and the other on a CPU, and this may be another machine.
_AUTOMATIC_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Sweep:
    """What was found, and the samples that were left alone because somebody writes to them."""

    unneeded: tuple[Unneeded, ...]
    in_use: tuple[str, ...]


def sweep(settings: Settings, least_age: float, delete: bool = False) -> Sweep:
    """Find what no current result of the store needs, and remove it if `delete`.

    Only what was written `least_age` seconds ago or earlier is looked for. A sample of which a
    process holds a folder is left alone; while one is looked at, writers wait.

    Raises:
        WeightsError: the weights that are set are missing, so that what is current is not known.
        StoreError: a file cannot be removed.
    """
    layout = Layout(settings.store)
    wanted = {encoder: _wanted(encoder, settings) for encoder in ENCODERS}
    found: list[Unneeded] = []
    in_use: list[str] = []
    for name in _names(layout):
        with_locks = (layout.index(name), *shard_folders_of(layout, name))
        with _held(folders_of(layout, name), with_locks) as free:
            if not free:
                in_use.append(name)
                continue
            going = unneeded(look(layout, name), wanted, least_age)
            if delete:
                _remove(going)
                _remove_empty(layout.samples / name)
        found += going
    elsewhere = (layout.root, layout.cohort, *layout.heads.glob("*/"))
    going = unneeded(SampleFiles(True, temporaries=temporaries_in(elsewhere)), wanted, least_age)
    if delete:
        _remove(going)
    return Sweep((*found, *going), tuple(in_use))


def _wanted(encoder: EncoderName, settings: Settings) -> Wanted:
    encoding = settings.models.encoding(encoder)
    weights = catalog.weights_digest(catalog.resolve_weights(encoder, encoding.weights))
    return Wanted(
        encoder_digest=catalog.encoder_digest(encoder, weights, encoding.long_sequences),
        dtypes=_AUTOMATIC_DTYPES if encoding.dtype == "auto" else (encoding.dtype,),
        n_shards=settings.n_shards,
    )


def _names(layout: Layout) -> list[str]:
    """Every name that a sample, its results or its report has, registered or not."""
    parents = (layout.samples, layout.predictions(""), layout.report(""))
    return sorted({folder.name for parent in parents for folder in parent.glob("*/")})


@contextmanager
def _held(folders: Iterable[Path], with_locks: Iterable[Path]) -> Iterator[bool]:
    """Whether nobody else holds one of `folders`, or is at work in one of `with_locks`.

    The first are held as `store.lock` has it, the others as `store.shard_locks`. Inside, we hold
    them all.
    """
    with ExitStack() as stack:
        for folder in with_locks:
            if not stack.enter_context(folder_if_free(folder)):
                yield False
                return
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True


def _remove(going: Iterable[Unneeded]) -> None:
    for item in going:
        try:
            if item.path.is_dir():
                shutil.rmtree(item.path)
            else:
                item.path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{item.path}: cannot be removed ({error.strerror}); change its permissions and "
                "start again"
            ) from error


def _remove_empty(sample: Path) -> None:
    for folder in (*sample.glob("embeddings/*/*.blocks"), sample):
        # One with something in it stays.
        with suppress(OSError):
            folder.rmdir()
