"""One pass over a file's records, block by block and over all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from virnuc_assets.errors import InputError
from virnuc_assets.sequences.blocks import Block, read_blocks
from virnuc_assets.sequences.input_file import OpenInput
from virnuc_assets.sequences.parallel import ordered_map
from virnuc_assets.sequences.records import Kind, Records, parse_records
from virnuc_assets.sequences.repeated_ids import IdHashes, check_ids, hash_ids

BLOCK_BYTES = 1 << 23
"""Text that is read and parsed at a time."""

Result = TypeVar("Result")


def scan(
    source: OpenInput,
    kind: Kind,
    work: Callable[[Records], Result],
    scratch: Path,
    *,
    threads: int,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Result]:
    """Yield `work(records)` for the records of each block of about `block_bytes`, in their order.

    Which records a block holds depends on the file and on `block_bytes` alone. `work` is called
    from `threads` threads. 8 bytes a record are kept in folder `scratch`, to look for repeated
    ids in the end.

    Raises:
        InputError: the file cannot be read, is neither FASTA nor FASTQ, holds no records or one
            that cannot be used (`parse_records`), or two records have one id.
    """

    def of_block(block: Block) -> tuple[np.ndarray, Result]:
        records = parse_records(source.path, kind, block)
        return hash_ids(records.ids), work(records)

    ids = IdHashes(scratch / "ids.hashes")
    count = 0
    for hashes, result in ordered_map(of_block, read_blocks(source, block_bytes), threads):
        ids.add(hashes)
        count += hashes.size
        yield result
    if not count:
        raise InputError(
            f"{source.path}: the file holds no records; give a FASTA or FASTQ file with records"
        )
    check_ids(source.path, kind, ids)
