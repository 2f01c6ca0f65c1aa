"""What a comparison of a shard with float32 found, beside the shards: `float32.json`.

It is about one shard, named by its checksum. Of a shard that was made again it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from virnuc_assets.errors import StoreError
from virnuc_assets.store.atomic import read_json, write_json
from virnuc_assets.store.embeddings import EmbeddingFile

AGREEMENT_FILE = "float32.json"


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


def write_agreement(directory: Path, record: AgreementRecord) -> None:
    """Write the record into a folder of shards, in place of an earlier one.

    Raises:
        StoreError: it cannot be written.
    """
    write_json(directory / AGREEMENT_FILE, asdict(record))


def read_agreement(directory: Path) -> AgreementRecord | None:
    """The record in a folder of shards; None where nothing was compared.

    Raises:
        StoreError: it is damaged.
    """
    path = directory / AGREEMENT_FILE
    if not path.is_file():
        return None
    try:
        return AgreementRecord(**read_json(path))
    except TypeError as error:
        raise StoreError(
            f"{path}: is not a comparison with float32 ({error}); delete it"
        ) from error


def refuse_what_disagrees(directory: Path, files: Sequence[EmbeddingFile]) -> None:
    """Refuse shards, all of a folder, of which one was found not to agree with float32.

    Raises:
        StoreError: there is one.
    """
    record = read_agreement(directory)
    if record is None or record.passed:
        return
    for file in files:
        if file.checksum == record.checksum:
            raise StoreError(
                f"{file.path}: does not agree with float32 (a cosine of {record.minimum:.4f}, and "
                f"{record.least} is wanted); delete it and embed again, with VIRNUC_DTYPE=float32 "
                "if it stays so"
            )
