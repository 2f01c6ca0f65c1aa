"""What there is of a sample that may be garbage, as far as it can be read."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from virnuc_assets.classifier import result_files
from virnuc_assets.encoders.catalog import PREFIXES, EncoderName
from virnuc_assets.errors import StoreError
from virnuc_assets.garbage.plan import Embedded, EncoderFolder, Found, Made, SampleFiles
from virnuc_assets.sequences.folder import STAGING
from virnuc_assets.sequences.manifest import read_manifest
from virnuc_assets.settings import ENCODERS
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.embeddings import read_attributes
from virnuc_assets.store.layout import Layout
from virnuc_assets.store.view import VIEW_FILE, View, read_view

_SHARD = re.compile(r"shard-(\d+)-of-(\d+)\.(?:h5|blocks)")
_BLOCK = re.compile(r"block-\d+\.h5")
_PIECE = re.compile(r"block-\d+\.piece-\d+-\d+\.h5")
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


def folders_of(layout: Layout, name: str) -> list[Path]:
    """The folders of a sample in which something is written, each that there is."""
    folders = (
        *(layout.samples / name, layout.index(name), *shard_folders_of(layout, name)),
        *(layout.predictions(name), layout.report(name)),
    )
    return [folder for folder in folders if folder.is_dir()]


def shard_folders_of(layout: Layout, name: str) -> list[Path]:
    """Those of a sample's shards, each that there is."""
    folders = (layout.embeddings(name, encoder) for encoder in ENCODERS)
    return [folder for folder in folders if folder.is_dir()]


def look(layout: Layout, name: str) -> SampleFiles:
    """What there is of the sample called `name`, registered or not; nobody may write meanwhile."""
    index = layout.index(name)
    embeddings = {encoder: layout.embeddings(name, encoder) for encoder in ENCODERS}
    if not layout.sample(name).is_file():
        made_of_it = (index, layout.embeddings(name, ENCODERS[0]).parent)
        results = (layout.predictions(name), layout.report(name))
        return SampleFiles(
            registered=False,
            temporaries=temporaries_in(results),
            made_of_it=[_found(folder) for folder in made_of_it if folder.is_dir()],
        )
    try:
        digest = read_manifest(index).index_digest
    except StoreError:
        digest = None
    blocks = (path for folder in embeddings.values() for path in folder.glob("*.blocks/"))
    temporaries = temporaries_in((*folders_of(layout, name), *blocks))
    if (staging := index / STAGING).is_dir():
        temporaries.append(_found(staging))
    used = _used(layout.predictions(name) / result_files.MANIFEST)
    if digest is None or used is None:
        return SampleFiles(registered=True, temporaries=temporaries)
    return SampleFiles(
        registered=True,
        index_digest=digest,
        encoders={encoder: _look_at_embeddings(path) for encoder, path in embeddings.items()},
        used=used,
        temporaries=temporaries,
    )


def temporaries_in(folders: Iterable[Path]) -> list[Found]:
    """What processes that are no more had begun to write in `folders`."""
    return [
        _found(path)
        for folder in folders
        for path in sorted(folder.glob(".*.tmp"))
        if (named := _TEMPORARY.fullmatch(path.name)) and not _is_alive(int(named[1]))
    ]


def _look_at_embeddings(folder: Path) -> EncoderFolder:
    """What of a folder of embeddings can be read; a damaged file is not for us to judge."""
    view = _view(folder / VIEW_FILE)
    shards = [
        embedded
        for path in sorted(folder.glob("shard-*.h5"))
        if (embedded := _embedded(path, path, view)) is not None
    ]
    in_blocks = sorted(folder.glob("shard-*.blocks/block-*.h5"))
    blocks = [
        embedded
        for path in in_blocks
        if _BLOCK.fullmatch(path.name)
        and (embedded := _embedded(path, path.parent, None)) is not None
    ]
    return EncoderFolder(
        shards=shards,
        blocks=blocks,
        pieces=[_found(path) for path in in_blocks if _PIECE.fullmatch(path.name)],
        view=None if view is None else _found(view.path),
        shown=() if view is None else view.shards,
    )


def _embedded(path: Path, named: Path, view: View | None) -> Embedded | None:
    """An embedding file; `named`: what says in its name which shard it is (of)."""
    numbers = _SHARD.fullmatch(named.name)
    if numbers is None:
        return None
    if view is not None and path.name in view.shards:
        # The view goes before its shards are replaced: no need to read them all.
        made = Made(view.index_digest, view.encoder_digest, view.dtype)
    else:
        try:
            identity = read_attributes(path).identity
        except StoreError:
            return None
        made = Made(identity.index_digest, identity.encoder_digest, identity.dtype)
    return Embedded(_found(path), made, int(numbers[1]), int(numbers[2]))


def _view(path: Path) -> View | None:
    try:
        return read_view(path)
    except StoreError:
        return None


def _used(results: Path) -> Mapping[EncoderName, Made] | None:
    """Encoder → the embeddings that the results were made from; None if they cannot be read.

    What results that are there need is then not known, so nothing may go.
    """
    if not results.exists():
        return {}
    try:
        said = read_json(results)["provenance"]
        return {
            encoder: Made(
                said["index_digest"],
                said[f"{PREFIXES[encoder]}_encoder_digest"],
                said[f"{PREFIXES[encoder]}_dtype"],
            )
            for encoder in ENCODERS
        }
    except (StoreError, KeyError, TypeError):
        return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _found(path: Path) -> Found:
    files = [path, *(path.rglob("*") if path.is_dir() else ())]
    said = [file.stat() for file in files]
    size = sum(about.st_size for file, about in zip(files, said, strict=True) if file.is_file())
    return Found(path, size, time.time() - max(about.st_mtime for about in said))
