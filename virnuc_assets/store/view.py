"""A sample's embeddings as one HDF5 dataset, without a copy of them.

`view.h5` lies beside the shards. Its `embeddings` (n, d) float32 is a virtual dataset: row i is row
i of the sequence table, read from the shard that has it. Shards are named relative to the view, so
the folder can be moved. What HDF5 cannot find it reads as NaN; `verify_view` names it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from virnuc_assets.errors import StoreError, UnusableFileError
from virnuc_assets.store.atomic import atomic_path
from virnuc_assets.store.embeddings import (
    EmbeddingFile,
    merge_origins,
    read_attributes,
    shard_path,
    verify_contents,
)
from virnuc_assets.store.hdf5 import new_hdf5
from virnuc_assets.store.seal import SEAL_BYTES, check_seal, seal
from virnuc_assets.store.sharded import check_shards

VIEW_FILE = "view.h5"
SCHEMA = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """What a view says of itself."""

    path: Path
    encoder: str
    model: str
    index_digest: str
    encoder_digest: str
    weights_digest: str
    dtype: str
    rows: int
    dim: int
    set_aside: tuple[int, ...]
    """Rows that could not be embedded, ascending; NaN."""
    shards: tuple[str, ...]
    """Names of the files it shows, in order."""
    checksums: tuple[str, ...]
    """What each one's `checksum` was."""


_TEXTS = ("encoder", "model", "index_digest", "encoder_digest", "weights_digest", "dtype")


def remove_view(directory: Path) -> None:
    """Remove the view of `directory`, if there is one."""
    (directory / VIEW_FILE).unlink(missing_ok=True)


def renew_view(directory: Path, n_shards: int, known: Mapping[int, EmbeddingFile]) -> View | None:
    """Make the view of `directory` if all shards are there and belong together, else remove it.

    One that already says just this is left as it is, and its time stamp too. `known`: shards that
    were just verified; the others are read.

    Raises:
        DiskFullError: there is no room for it.
        StoreError: it cannot be written.
    """
    paths = [shard_path(directory, shard, n_shards) for shard in range(n_shards)]
    if not all(path.exists() for path in paths):
        remove_view(directory)
        return None
    try:
        files = [known.get(shard) or read_attributes(path) for shard, path in enumerate(paths)]
        check_shards(
            files, sum(file.identity.stop for file in files), files[0].identity.index_digest
        )
    except StoreError as error:
        _log.warning("%s: is not made, because %s", directory / VIEW_FILE, error)
        remove_view(directory)
        return None
    view = _view_of(directory, files)
    if not _is_there(view):
        _write(view, files)
    return view


def _view_of(directory: Path, files: Sequence[EmbeddingFile]) -> View:
    """What the view of all shards of one embedding (see `check_shards`), in order, is to say."""
    identity, origin = files[0].identity, merge_origins(files)
    return View(
        path=directory / VIEW_FILE,
        encoder=identity.encoder,
        model=origin.model,
        index_digest=identity.index_digest,
        encoder_digest=identity.encoder_digest,
        weights_digest=origin.weights_digest,
        dtype=identity.dtype,
        rows=sum(file.identity.stop for file in files),
        dim=files[0].dim,
        set_aside=tuple(sorted(row for file in files for row in file.set_aside)),
        shards=tuple(file.path.name for file in files),
        checksums=tuple(file.checksum for file in files),
    )


def _is_there(view: View) -> bool:
    try:
        return read_view(view.path) == view
    except StoreError:
        return False


def _write(view: View, files: Sequence[EmbeddingFile]) -> None:
    layout = h5py.VirtualLayout((view.rows, view.dim), np.float32)
    # As for any other dataset: the same shards give the same bytes at any time.
    layout.dcpl.set_obj_track_times(False)
    for shard, file in enumerate(files):
        if n := file.identity.stop:
            source = h5py.VirtualSource(file.path.name, "embeddings", (n, view.dim), np.float32)
            layout[shard :: len(files)] = source
    with atomic_path(view.path) as temporary:
        # The older format lists every row of a shard, and is read in quadratic time.
        with new_hdf5(temporary, SEAL_BYTES, oldest_reader="v110") as file:
            if view.rows:
                file.create_virtual_dataset("embeddings", layout, fillvalue=np.nan)
            else:
                file.create_dataset("embeddings", (0, view.dim), np.float32)
            file.create_dataset("set_aside", data=np.array(view.set_aside, np.int64))
            names = np.array([view.shards, view.checksums], h5py.string_dtype())
            file.create_dataset("shards", data=names.T)
            file.attrs["view_schema"] = SCHEMA
            for name in _TEXTS:
                file.attrs[name] = getattr(view, name)
        seal(temporary)


def read_view(path: Path) -> View:
    """Read what a view says of itself; its own bytes are checked first, its shards are not.

    Raises:
        StoreError: missing.
        UnusableFileError: damaged, or not a view of this version.
    """
    check_seal(path)
    try:
        with h5py.File(path, "r") as file:
            schema = file.attrs["view_schema"]
            rows, dim = file["embeddings"].shape
            shards = file["shards"].asstr()[:]
            view = View(
                path=path,
                **{name: file.attrs[name] for name in _TEXTS},
                rows=rows,
                dim=dim,
                set_aside=tuple(file["set_aside"][:].tolist()),
                shards=tuple(shards[:, 0]),
                checksums=tuple(shards[:, 1]),
            )
    except (OSError, KeyError) as error:
        raise UnusableFileError(path, f"is not a view of embeddings ({error})") from error
    if schema != SCHEMA:
        raise UnusableFileError(path, f"has format {schema}, this version reads {SCHEMA}")
    return view


def verify_view(view: View) -> list[str]:
    """What is wrong with the shards that `view` shows, a sentence each; all are read in full."""
    faults = []
    for name, checksum in zip(view.shards, view.checksums, strict=True):
        try:
            found = verify_contents(view.path.parent / name)
        except StoreError as error:
            faults.append(str(error))
            continue
        if found.checksum != checksum:
            faults.append(
                f"{found.path}: is not the shard that {view.path.name} was made from; embed again, "
                "which makes the view anew"
            )
    return faults
