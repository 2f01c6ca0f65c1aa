"""What a comparison of a shard with float32 found, in a file beside the shard.

It names the shard's checksum. Of a shard that was made again it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import read_json, write_json
from virnuc_assets.store.embeddings import EmbeddingFile

SUFFIX = ".float32.json"


@dataclass(frozen=True)
class AgreementRecord:
    """How some embeddings of a shard agree with the same sequences' in float32.

    `compared`: how many. `minimum`, `median`: of their cosines. `least`: what each must reach.
    """

    shard: int
    checksum: str
    dtype: str
    device: str
    passed: bool
    compared: int
    minimum: float
    median: float
    least: float


def agreement_path(shard: Path) -> Path:
    """The record's file, of a shard's."""
    return shard.with_suffix(SUFFIX)


def write_agreement(shard: Path, record: AgreementRecord) -> None:
    """Write the record beside a shard's file, in place of an earlier one.

    Raises:
        StoreError: it cannot be written.
    """
    write_json(agreement_path(shard), asdict(record))


def read_agreement(path: Path) -> AgreementRecord | None:
    """The record in a file; None if there is none.

    Raises:
        StoreError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return AgreementRecord(**read_json(path))
    except TypeError as error:
        raise StoreError(
            f"{path}: is not a comparison with float32 ({error}); delete it"
        ) from error


def agreement_of(file: EmbeddingFile) -> AgreementRecord | None:
    """What was found of these very embeddings; None if they were never compared.

    Raises:
        StoreError: the record is damaged.
    """
    record = read_agreement(agreement_path(file.path))
    return record if record is not None and record.checksum == file.checksum else None


def refuse_what_disagrees(files: Sequence[EmbeddingFile]) -> None:
    """Refuse shards of which one was found not to agree with float32.

    Raises:
        StoreError: there is one.
    """
    for file in files:
        record = agreement_of(file)
        if record is not None and not record.passed:
            raise StoreError(
                f"{file.path}: does not agree with float32 (a cosine of {record.minimum:.4f}, and "
                f"{record.least} is wanted); delete it and embed again, with VIRNUC_DTYPE=float32 "
                "if it stays so"
            )
