"""A head on disk: a folder with `head.json` (its card) and `head.safetensors` (its weights).

Read and written without torch, and a card without NumPy, so that listing heads is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virnuc_assets.errors import WeightsError
from virnuc_assets.store.atomic import atomic_path, read_json, write_json
from virnuc_assets.store.digests import sha256_file, sha256_json

if TYPE_CHECKING:
    import numpy as np

CARD_FILE = "head.json"
WEIGHTS_FILE = "head.safetensors"
LABELS = {"0": "others", "1": "virus"}


@dataclass(frozen=True)
class HeadCard:
    """What a head is called, what it takes and where it comes from.

    `label` is what results say about the model, such as "virnuc-mini-1". `chunk_length` is the
    chunk length (bases) the head was trained at, or None where it is not known; `source_sha256`
    the digest of the file it was converted from, or None. Output 0 is others, output 1 is virus.
    """

    name: str
    label: str
    dna_dim: int
    protein_dim: int
    hidden_dim: int
    chunk_length: int | None = None
    source_sha256: str | None = None
    notes: str = ""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors such a head has (all float32) and their shapes."""
        hidden = (self.hidden_dim,)
        return {
            "hidden_layer.weight": (self.hidden_dim, self.dna_dim + self.protein_dim),
            "hidden_layer.bias": hidden,
            "bn1.weight": hidden,
            "bn1.bias": hidden,
            "bn1.running_mean": hidden,
            "bn1.running_var": hidden,
            "output_layer.weight": (len(LABELS), self.hidden_dim),
            "output_layer.bias": (len(LABELS),),
        }


def save_head(directory: Path, card: HeadCard, weights: Mapping[str, np.ndarray]) -> None:
    """Write a head to `directory`, weights first and the card last, each atomically.

    Raises:
        WeightsError: a tensor is missing, unknown, of the wrong shape or not finite.
        StoreError: the folder cannot be written.
    """
    import numpy as np
    from safetensors.numpy import save

    _check(card, weights, directory / WEIGHTS_FILE)
    tensors = {name: np.ascontiguousarray(weights[name], np.float32) for name in sorted(weights)}
    with atomic_path(directory / WEIGHTS_FILE) as temporary:
        # save_file would leave a file that only its owner can read.
        temporary.write_bytes(save(tensors))
    write_json(directory / CARD_FILE, {**asdict(card), "labels": LABELS})


def read_card(directory: Path) -> HeadCard:
    """Read a head's card.

    Raises:
        WeightsError: there is no head in `directory`, or its card is not one this version reads.
        StoreError: the card is not JSON.
    """
    path = directory / CARD_FILE
    if not path.is_file():
        raise WeightsError(
            f"{directory}: holds no head ({CARD_FILE} is missing); "
            "convert one with `virnuc heads import FILE.pth`"
        )
    value = read_json(path)
    names = {field.name for field in fields(HeadCard)}
    if not isinstance(value, dict) or set(value) != names | {"labels"}:
        raise WeightsError(
            f"{path}: is not the card of a head (expected the keys {', '.join(sorted(names))} and "
            "labels); convert the head again with `virnuc heads import`"
        )
    if value.pop("labels") != LABELS:
        raise WeightsError(
            f"{path}: labels must be {LABELS}, the order the result files are written in; "
            "convert the head again with `virnuc heads import`"
        )
    return _typed_card(path, value)


def read_weights(directory: Path, card: HeadCard) -> dict[str, np.ndarray]:
    """Read the float32 tensors of a head, checked against its card.

    Raises:
        WeightsError: the file is missing or damaged, or a tensor does not fit the card.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = directory / WEIGHTS_FILE
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path}: no such file; convert the head again with `virnuc heads import`"
        ) from error
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: is not a safetensors file ({error}); "
            "convert the head again with `virnuc heads import`"
        ) from error
    _check(card, weights, path)
    return {name: array.astype(np.float32, copy=False) for name, array in weights.items()}


def head_digest(directory: Path) -> str:
    """Identity of a head: the digest of the digests of its two files."""
    return sha256_json({name: sha256_file(directory / name) for name in (CARD_FILE, WEIGHTS_FILE)})


def _typed_card(path: Path, value: dict[str, Any]) -> HeadCard:
    text, count = (str,), (int,)
    kinds: dict[str, tuple[type, ...]] = {
        "name": text,
        "label": text,
        "dna_dim": count,
        "protein_dim": count,
        "hidden_dim": count,
        "chunk_length": (int, type(None)),
        "source_sha256": (str, type(None)),
        "notes": text,
    }
    for name, allowed in kinds.items():
        if type(value[name]) not in allowed:
            raise WeightsError(
                f"{path}: {name} is {value[name]!r}, which is not "
                f"{' or '.join(kind.__name__ for kind in allowed)}; correct it"
            )
    return HeadCard(**value)


def _check(card: HeadCard, weights: Mapping[str, np.ndarray], path: Path) -> None:
    import numpy as np

    shapes = card.shapes()
    if wrong := sorted(set(shapes) ^ set(weights)):
        state = "is missing" if wrong[0] in shapes else "does not belong to a head"
        raise WeightsError(
            f"{path}: tensor {wrong[0]} {state}; convert the head again with `virnuc heads import`"
        )
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise WeightsError(
                f"{path}: tensor {name} has shape {weights[name].shape} where the card of "
                f"{card.name} asks for {shape}; use the card and weights of one head"
            )
        if not np.isfinite(weights[name]).all():
            raise WeightsError(f"{path}: tensor {name} has NaN or infinity; train the head again")
