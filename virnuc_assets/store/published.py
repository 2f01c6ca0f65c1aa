"""An output folder in an object store: blocks that workers publish, and a manifest a shard.

Below the output's URL:

    shard-03-of-08.blocks/block-00017.<identity>.<description>.h5     a block file, as on a disk
    shard-03-of-08.blocks/block-00017.<identity>.<description>.json   its entry: what it says of
                                                                      itself, and its bytes
    shard-03-of-08.json                                               names the shard's blocks

`<identity>` and `<description>` are digests of what the block is and of all that it says of itself,
the SHA-256 of its embeddings included. So a block is never overwritten by another. It counts once
its entry is there, which is written after it; a shard counts once its manifest is there. Nothing
is joined in the store: who reads a shard fetches its blocks, and joins them to the very file that a
run into a folder would have left. A run never downloads what it or another has published.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from virnuc_assets.errors import StoreError, UnusableFileError
from virnuc_assets.store.digests import sha256_json, shards_digest
from virnuc_assets.store.embeddings import (
    Counts,
    EmbeddingFile,
    Identity,
    assemble_shard,
    blocks_directory,
    merge_origins,
    shard_path,
    verify,
)
from virnuc_assets.store.entries import (
    block_key,
    blocks_key,
    describe,
    identity_digest,
    identity_digest_in,
    manifest_key,
    read_description,
    to_json,
)
from virnuc_assets.store.objects import Objects, Stored
from virnuc_assets.store.shard_locks import whole_folder
from virnuc_assets.store.view import remove_view

SCHEMA = 1
_REQUESTS_AT_ONCE = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedShard:
    """A shard whose manifest is there."""

    identity: Identity
    blocks: tuple[EmbeddingFile, ...]
    """In order; their paths are where they lie once fetched."""


@dataclass(frozen=True)
class Published:
    """An output folder in an object store, and a folder of this host for what is made or fetched.

    Every method raises StoreError when the store cannot be used.
    """

    objects: Objects
    folder: Path
    """Laid out as an output folder on a disk is."""

    def publish(self, file: EmbeddingFile) -> None:
        """Publish a block, or a piece of one, that lies on this host; its file is removed."""
        key, size = block_key(file), file.path.stat().st_size
        entry = to_json({**describe(file), "bytes": size})
        there = self.objects.size(f"{key}.json") == len(entry)
        if not there or self.objects.size(f"{key}.h5") != size:
            self.objects.publish(file.path, f"{key}.h5")
            self.objects.write(f"{key}.json", entry)
        file.path.unlink()

    def blocks(self, wanted: Collection[Identity]) -> dict[Identity, EmbeddingFile]:
        """Blocks of one shard that are published, of those `wanted`; none of them is downloaded.

        They are listed, a request for every 500, and the entries of those wanted are read.
        """
        if not wanted:
            return {}
        first = next(iter(wanted))
        listed = self._listed(first.shard, first.n_shards)
        digests = {identity_digest(identity) for identity in wanted}
        entries = [
            key for key in listed if key.endswith(".json") and identity_digest_in(key) in digests
        ]
        found: dict[Identity, EmbeddingFile] = {}
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            for key, text in zip(entries, threads.map(self.objects.read, entries), strict=True):
                file = self._from_entry(key, text, listed)
                # Two workers may have made the same block; the first by name is as good.
                if file is not None:
                    found.setdefault(file.identity, file)
        return found

    def fetch(self, file: EmbeddingFile) -> EmbeddingFile:
        """A published block as a file of this host, checked; downloaded unless it lies there.

        Raises:
            StoreError: it is missing, damaged, or not the block that was published.
        """
        identity = file.identity
        folder = blocks_directory(self.folder, identity.shard, identity.n_shards)
        path = folder / file.path.name
        wanted = replace(file, path=path)
        if path.exists() and _fault(wanted) is None:
            return wanted
        self.objects.fetch(f"{block_key(file)}.h5", path)
        if fault := _fault(wanted):
            path.unlink()
            where = f"{self.objects.url}/{block_key(file)}.h5"
            raise StoreError(f"{where}: {fault}; delete this object and embed again")
        return wanted

    def manifest_url(self, shard: int, n_shards: int) -> str:
        """Where a shard's manifest is, or will be."""
        return f"{self.objects.url}/{manifest_key(shard, n_shards)}"

    def finish(self, identity: Identity, blocks: Sequence[EmbeddingFile]) -> EmbeddingFile:
        """Publish the manifest of a shard whose `blocks` are all published, in order.

        What else lies among its blocks is deleted: pieces, and blocks made from something else. One
        that was made twice stays: another run may be about to name it.

        Returns:
            What its file will say of itself once it is fetched, but for the checksum, which here is
            `shards_digest` of the blocks'.
        """
        manifest = {
            "schema": SCHEMA,
            "identity": asdict(identity),
            "blocks": [describe(block) for block in blocks],
        }
        text = to_json({**manifest, "digest": sha256_json(manifest)})
        self.objects.write(manifest_key(identity.shard, identity.n_shards), text)
        of_this = {identity_digest(block.identity) for block in blocks}
        for key in self._listed(identity.shard, identity.n_shards):
            if identity_digest_in(key) not in (*of_this, None):
                self.objects.delete(key)
        return self._summary(identity, blocks)

    def shard(self, shard: int, n_shards: int) -> PublishedShard | None:
        """The published shard; None: there is none, or its manifest was cut short."""
        key = manifest_key(shard, n_shards)
        text = self.objects.read(key)
        if text is None:
            return None
        try:
            manifest = json.loads(text)
            digest = manifest.pop("digest")
            if manifest["schema"] != SCHEMA or digest != sha256_json(manifest):
                raise ValueError("its digest or version is another")
            blocks = tuple(read_description(block, self.folder) for block in manifest["blocks"])
            return PublishedShard(Identity(**manifest["identity"]), blocks)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s/%s: is not a shard's manifest (%s)", self.objects.url, key, error)
            return None

    def finished(self, identity: Identity) -> EmbeddingFile | None:
        """What `finish` returned, if it was made from `identity` and all its blocks are listed."""
        published = self.shard(identity.shard, identity.n_shards)
        if published is None or published.identity != identity:
            return None
        listed = self._listed(identity.shard, identity.n_shards)
        missing = [block for block in published.blocks if f"{block_key(block)}.h5" not in listed]
        if missing:
            _log.warning(
                "%s/%s.h5: is not there, so its shard is made again, and no other block of it",
                self.objects.url,
                block_key(missing[0]),
            )
        return None if missing else self._summary(identity, published.blocks)

    def fetch_shard(self, shard: int, n_shards: int) -> EmbeddingFile:
        """A published shard as a file of this host, byte for byte as a run on this host leaves it.

        A file that lies there and verifies is kept; so are blocks that an interrupted call fetched.

        Raises:
            StoreError: it is not published, or a block is missing or damaged.
        """
        published = self.shard(shard, n_shards)
        if published is None:
            raise StoreError(f"{self.manifest_url(shard, n_shards)}: no such shard; embed it first")
        path = shard_path(self.folder, shard, n_shards)
        if path.exists():
            try:
                file = verify(path, published.identity)
                summary = self._summary(published.identity, published.blocks)
                if replace(file, checksum=summary.checksum) == summary:
                    return file
            except UnusableFileError as error:
                _log.warning("%s: %s; it is fetched again", path, error.fault)
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE // 2) as threads:
            blocks = list(threads.map(self.fetch, published.blocks))
        # Of shards that are replaced one by one it would show some old and some new ones.
        with whole_folder(self.folder):
            remove_view(self.folder)
        file = assemble_shard(self.folder, published.identity, blocks, blocks[0].dim)
        shutil.rmtree(blocks_directory(self.folder, shard, n_shards))
        return file

    def _summary(self, identity: Identity, blocks: Sequence[EmbeddingFile]) -> EmbeddingFile:
        return EmbeddingFile(
            path=shard_path(self.folder, identity.shard, identity.n_shards),
            identity=identity,
            counts=sum((block.counts for block in blocks), Counts()),
            origin=merge_origins(blocks),
            dim=blocks[0].dim,
            checksum=shards_digest(block.checksum for block in blocks),
            set_aside=tuple(row for block in blocks for row in block.set_aside),
        )

    def _listed(self, shard: int, n_shards: int) -> dict[str, Stored]:
        listed = self.objects.list(blocks_key(shard, n_shards))
        return {stored.key: stored for stored in listed}

    def _from_entry(
        self, key: str, text: bytes | None, listed: dict[str, Stored]
    ) -> EmbeddingFile | None:
        data = listed.get(f"{key.removesuffix('.json')}.h5")
        try:
            entry = json.loads(text or b"")
            size = entry.pop("bytes")
            file = read_description(entry, self.folder)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s/%s: is not a block's entry (%s)", self.objects.url, key, error)
            return None
        whole = data is not None and data.size == size and f"{block_key(file)}.json" == key
        if not whole:
            _log.warning("%s/%s: its block is not there as it says", self.objects.url, key)
        return file if whole else None


def _fault(wanted: EmbeddingFile) -> str | None:
    """What is wrong with the file that is to be `wanted`."""
    try:
        found = verify(wanted.path, wanted.identity)
    except UnusableFileError as error:
        return error.fault
    return None if found == wanted else "is another block than was published"
