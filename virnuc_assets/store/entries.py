"""What published blocks and shards are called in an object store, and say of themselves there."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from virnuc_assets.store.digests import sha256_json
from virnuc_assets.store.embeddings import (
    Counts,
    EmbeddingFile,
    Identity,
    Origin,
    blocks_directory,
    shard_path,
)

_KEY = re.compile(r"/block-[^/]+\.([0-9a-f]{16})\.[0-9a-f]{32}\.(h5|json)$")


def describe(file: EmbeddingFile) -> dict[str, Any]:
    """What a block, or a piece of one, says of itself, wherever it lies; JSON-ready."""
    return {
        "name": file.path.name,
        "identity": asdict(file.identity),
        "counts": asdict(file.counts),
        "origin": asdict(file.origin),
        "dim": file.dim,
        "checksum": file.checksum,
        "set_aside": list(file.set_aside),
    }


def read_description(description: dict[str, Any], folder: Path) -> EmbeddingFile:
    """The block of which `describe` said so, where it lies in an output folder once fetched.

    Raises:
        KeyError, TypeError: it is not what `describe` gives.
    """
    identity = Identity(**description["identity"])
    blocks = blocks_directory(folder, identity.shard, identity.n_shards)
    return EmbeddingFile(
        path=blocks / Path(description["name"]).name,
        identity=identity,
        counts=Counts(**description["counts"]),
        origin=Origin(**description["origin"]),
        dim=description["dim"],
        checksum=description["checksum"],
        set_aside=tuple(description["set_aside"]),
    )


def identity_digest(identity: Identity) -> str:
    """As keys hold it."""
    return sha256_json(asdict(identity))[:16]


def identity_digest_in(key: str) -> str | None:
    """The one that the key of a block or of its entry holds; None: it is neither's."""
    found = _KEY.search(key)
    return found and found[1]


def block_key(file: EmbeddingFile) -> str:
    """The key of a block and, with another suffix, of its entry: here without any."""
    identity = file.identity
    digests = f"{identity_digest(identity)}.{sha256_json(describe(file))[:32]}"
    return f"{blocks_key(identity.shard, identity.n_shards)}/{file.path.stem}.{digests}"


def blocks_key(shard: int, n_shards: int) -> str:
    """The folder of a shard's blocks."""
    return blocks_directory(Path(), shard, n_shards).name


def manifest_key(shard: int, n_shards: int) -> str:
    """The manifest of a shard."""
    return f"{shard_path(Path(), shard, n_shards).stem}.json"


def to_json(value: Any) -> bytes:
    """The same value always gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
