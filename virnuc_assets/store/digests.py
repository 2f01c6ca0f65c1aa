"""SHA-256 digests: of files (what `sha256sum` prints) and of canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

INDEX_DIGEST_KEY = "virnuc.index_digest"
"""Metadata key of an index's tables: which index they belong to."""


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form (sorted keys, no white space)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def shards_digest(checksums: Iterable[str]) -> str:
    """One digest for all shards of a sample, from the checksum of each, in order."""
    return sha256_json(list(checksums))
