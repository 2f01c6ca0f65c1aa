"""The files of an index and its manifest, which says what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from virnuc_assets.errors import StoreError
from virnuc_assets.sequences.folder import MANIFEST_FILE
from virnuc_assets.store.atomic import read_json
from virnuc_assets.store.digests import sha256_json

RECORDS_FILE = "records.parquet"
FRAMES_FILE = "frames.parquet"
NUCLEOTIDES_FILE = "nucleotides.arrow"
PROTEINS_FILE = "proteins.arrow"
INDEX_SCHEMA = 1


@dataclass(frozen=True)
class IndexManifest:
    """What an index holds and what it was made from.

    `nucleotide_residues` and `protein_residues` count the letters of the unique sequences, which
    are what is embedded. `index_digest` covers the input, the chunk length and both sequence
    tables, and not the tool's version.
    """

    schema: int
    tool_version: str
    index_digest: str
    chunk_length: int
    input_name: str
    input_bytes: int
    input_sha256: str
    records: int
    rna_records: int
    records_without_open_frame: int
    chunks: int
    frames: int
    unique_nucleotides: int
    unique_proteins: int
    nucleotide_residues: int
    protein_residues: int
    nucleotides_sha256: str
    proteins_sha256: str
    warnings: tuple[str, ...]

    @property
    def unique_share(self) -> float:
        """Unique sequences over all of them, both tables: the share of the work that is done."""
        if not self.frames:
            return 1.0
        return (self.unique_nucleotides + self.unique_proteins) / (2 * self.frames)


def index_digest(manifest: IndexManifest) -> str:
    """The digest that belongs to what `manifest` says."""
    names = ("schema", "chunk_length", "input_sha256", "nucleotides_sha256", "proteins_sha256")
    return sha256_json({name: getattr(manifest, name) for name in names})


def read_manifest(directory: Path) -> IndexManifest:
    """Read the manifest of a complete index.

    Raises:
        StoreError: `directory` holds no complete index, or one that another version made.
    """
    path = directory / MANIFEST_FILE
    if not path.exists():
        raise StoreError(f"{directory}: holds no complete index; make it first (virnuc index)")
    value = read_json(path)
    try:
        manifest = IndexManifest(**{**value, "warnings": tuple(value["warnings"])})
    except (TypeError, KeyError) as error:
        raise StoreError(
            f"{path}: is not the manifest of an index; make the index again"
        ) from error
    if manifest.schema != INDEX_SCHEMA:
        raise StoreError(
            f"{path}: has index schema {manifest.schema} and this version reads {INDEX_SCHEMA}; "
            "make the index again"
        )
    return manifest
