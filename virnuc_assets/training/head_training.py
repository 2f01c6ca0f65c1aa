"""Training the MLP head on features: VirNucPro's shape, balanced draws, early stopping.

What is in memory: `features.BUFFER_BYTES` of features, the model, one batch, and for each frame its
bookkeeping (`LabelledFrames`) and, of the validation part, its logits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from virnuc_assets.classifier.head import MLPHead
from virnuc_assets.classifier.head_files import HeadCard
from virnuc_assets.errors import InputError
from virnuc_assets.training.features import Features, in_order, shuffled
from virnuc_assets.training.margins import balanced_auroc, margins

_SCALE_FRAMES = 1 << 14
_SCORED_FRAMES = 4096


@dataclass(frozen=True)
class TrainingSettings:
    """How a head is trained; the defaults are what `virnuc train-head` uses."""

    seed: int = 0
    hidden_dim: int = 512
    dropout: float = 0.5
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    batch_frames: int = 1024
    least_epoch_frames: int = 1 << 14
    most_epoch_frames: int = 1 << 18
    """An epoch draws as many frames as there are to train on, within these bounds."""
    most_epochs: int = 60
    patience: int = 5
    """Epochs without a better validation AUROC after which training ends."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: the mean loss of its draws, and the AUROC on the validation part."""

    loss: float
    validation_auroc: float


@dataclass(frozen=True)
class TrainedHead:
    """A head's tensors, as `save_head` takes them, after the best of the epochs."""

    weights: dict[str, np.ndarray]
    validation_logits: np.ndarray
    """Of the validation frames, (m, 2) float32."""
    epochs: tuple[Epoch, ...]
    best_epoch: int
    """Counted from 1."""
    device: str
    threads: int


def train_head(
    features: Features,
    training: np.ndarray,
    validation: np.ndarray,
    settings: TrainingSettings,
    device: str,
    tell: Callable[[str], None],
) -> TrainedHead:
    """Train a head on frames `training` (n,) int64; stop by the AUROC on `validation` (m,) int64.

    Frames are drawn by `LabelledFrames.sampling_weights`, with replacement; validation frames count
    by group, as `balanced_weights` says. Features are standardised by the mean and deviation of
    drawn training frames, which goes into the first layer in the end. `device` is `cpu`, or `auto`:
    the first visible GPU, else the CPU. On the CPU the same features, settings and number of
    threads give the same bits.

    Raises:
        InputError: the frames of a part are all of one class.
    """
    _check_classes(features, training, "training")
    _check_classes(features, validation, "validation")
    gpu = device != "cpu" and torch.cuda.is_available()
    place = torch.device("cuda:0" if gpu else "cpu")
    rng = np.random.default_rng(settings.seed)
    weights = features.frames.sampling_weights(training)
    mean, deviation = _scale(features, rng.choice(training, _SCALE_FRAMES, p=weights))
    dna_dim, protein_dim = features.dims
    card = HeadCard("", "", dna_dim, protein_dim, settings.hidden_dim)
    draws = min(max(len(training), settings.least_epoch_frames), settings.most_epoch_frames)
    epochs: list[Epoch] = []
    best, best_state = 0, {}
    # Dropout draws from the process's own generators: they are put back afterwards.
    with torch.random.fork_rng([place] if gpu else []):
        torch.manual_seed(settings.seed)
        model = _TrainableHead(card, settings.dropout, mean, deviation).to(place)
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        while len(epochs) < settings.most_epochs and len(epochs) - best < settings.patience:
            drawn = rng.choice(training, draws, p=weights)
            loss = _epoch(model, optimiser, features, drawn, settings.batch_frames, rng, place)
            auroc = _auroc(features, validation, _logits(model, features, validation, place))
            epochs.append(Epoch(loss, auroc))
            if auroc > max((epoch.validation_auroc for epoch in epochs[:-1]), default=-1.0):
                best, best_state = len(epochs), copy.deepcopy(model.state_dict())
            tell(f"epoch {len(epochs)}: loss {loss:.4f}, validation AUROC {auroc:.4f}")
    model.load_state_dict(best_state)
    return TrainedHead(
        weights=model.folded(),
        validation_logits=_logits(model, features, validation, place),
        epochs=tuple(epochs),
        best_epoch=best,
        device=str(place),
        threads=torch.get_num_threads(),
    )


class _TrainableHead(nn.Module):
    """Standardisation, the head, and dropout before its output layer."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self, card: HeadCard, dropout: float, mean: np.ndarray, deviation: np.ndarray
    ) -> None:
        super().__init__()
        self.head = MLPHead(card)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("deviation", torch.from_numpy(deviation))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2) of features (n, d)."""
        scaled = (features - self.mean) / self.deviation
        hidden = torch.relu(self.head.bn1(self.head.hidden_layer(scaled)))
        return self.head.output_layer(self.dropout(hidden))

    def folded(self) -> dict[str, np.ndarray]:
        """The tensors of a head that does the same to features as they are, without dropout."""
        state = {
            name: tensor.detach().cpu().numpy().astype(np.float64)
            for name, tensor in self.head.state_dict().items()
            if name != "bn1.num_batches_tracked"
        }
        mean, deviation = (t.cpu().numpy().astype(np.float64) for t in (self.mean, self.deviation))
        state["hidden_layer.weight"] /= deviation
        state["hidden_layer.bias"] -= state["hidden_layer.weight"] @ mean
        return {name: values.astype(np.float32) for name, values in state.items()}


def _epoch(
    model: _TrainableHead,
    optimiser: torch.optim.Optimizer,
    features: Features,
    drawn: np.ndarray,
    size: int,
    rng: np.random.Generator,
    device: torch.device,
) -> float:
    model.train()
    total = torch.zeros((), device=device)
    count = 0
    for values, is_virus in shuffled(features, drawn, size, rng):
        optimiser.zero_grad(set_to_none=True)
        labels = torch.from_numpy(is_virus.astype(np.int64)).to(device)
        loss = nn.functional.cross_entropy(model(torch.from_numpy(values).to(device)), labels)
        loss.backward()
        optimiser.step()
        total += loss.detach()
        count += 1
    return float(total) / count


def _logits(
    model: _TrainableHead, features: Features, rows: np.ndarray, device: torch.device
) -> np.ndarray:
    model.eval()
    with torch.inference_mode():
        parts = [
            model(torch.from_numpy(values).to(device)).cpu().numpy()
            for values in in_order(features, rows, _SCORED_FRAMES)
        ]
    return np.concatenate(parts)


def _auroc(features: Features, rows: np.ndarray, logits: np.ndarray) -> float:
    frames = features.frames
    return balanced_auroc(margins(logits), frames.group[rows], frames.is_virus[rows])


def _scale(features: Features, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature, (d,) float32; 1 where it does not vary."""
    total = squares = np.zeros(sum(features.dims))
    first = features.take(rows[:1]).astype(np.float64)  # so that large means cost no digits
    for values in in_order(features, np.sort(rows), _SCORED_FRAMES):
        moved = values - first
        total = total + moved.sum(axis=0)
        squares = squares + (moved**2).sum(axis=0)
    mean = total / len(rows)
    deviation = np.sqrt(np.maximum(squares / len(rows) - mean**2, 0))
    deviation[deviation < 1e-6 * (np.abs(first[0] + mean) + 1e-6)] = 1
    return (first[0] + mean).astype(np.float32), deviation.astype(np.float32)


def _check_classes(features: Features, rows: np.ndarray, part: str) -> None:
    found = set(features.frames.is_virus[rows].tolist())
    for is_virus, name in ((True, "virus"), (False, "other")):
        if is_virus not in found:
            raise InputError(
                f"the {part} part: has no open frame of class {name}, so nothing can be learnt; "
                "give longer or more records of that class"
            )
