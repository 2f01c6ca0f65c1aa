"""Checkpoints in the published formats, which several folders' tests read."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from virnuc_assets_tests import untrained


def pytest_configure(config):
    """Whatever is tested runs on the untrained models, in this process and in those it starts."""
    os.environ.update(untrained.settings())


def pytest_collection_modifyitems(items):
    """Slow tests first: they wait for daemons while the others compute."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


# A program like the original's training script: the class lives in its __main__.
ORIGINAL = """
import sys
import numpy as np
import torch
from torch import nn


class MLPClassifier(nn.Module):
    def __init__(self, input_size, hidden_size, num_classes):
        super().__init__()
        self.hidden_layer = nn.Linear(input_size, hidden_size)
        self.bn1 = nn.BatchNorm1d(hidden_size)
        self.output_layer = nn.Linear(hidden_size, num_classes)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.hidden_layer(x)))
        return self.output_layer(self.dropout(x))


folder = sys.argv[1]
torch.manual_seed(0)
model = MLPClassifier(3328, 512, 2)
for _ in range(3):  # so that the running mean and variance are not their defaults
    model(torch.randn(64, 3328) * 2 + 1)
model.eval()
features = torch.randn(50, 3328)
with torch.no_grad():
    np.savez(f"{folder}/scores.npz", features=features, scores=model(features).softmax(1))
torch.save(model, f"{folder}/module.pth")
torch.save(model, f"{folder}/legacy.pth", _use_new_zipfile_serialization=False)
torch.save(model.state_dict(), f"{folder}/state.pth")
torch.save({"epoch": 3, "model_state_dict": model.state_dict()}, f"{folder}/checkpoint.pth")
torch.jit.trace(model, features).save(f"{folder}/torchscript.pth")
"""


@pytest.fixture(scope="session")
def fair_esm_model():
    """fair-esm's own ESM-2, 6 layers × 320, random weights, no part left at its neutral value."""
    import torch
    from esm.model.esm2 import ESM2

    torch.manual_seed(1)
    model = ESM2(num_layers=6, embed_dim=320, attention_heads=20).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
            if "q_proj" in name or "k_proj" in name:
                parameter.mul_(3)  # attention that tells tokens and places apart
    return model


@pytest.fixture(scope="session")
def fair_esm_content(fair_esm_model) -> dict:
    """What a published ESM-2 .pt file holds, without the contact regression's part."""
    model = {
        f"encoder.{'' if name.startswith('lm_head') else 'sentence_encoder.'}{name}": tensor
        for name, tensor in fair_esm_model.state_dict().items()
        if not name.startswith("contact_head")
    }
    settings = Namespace(
        encoder_layers=6, encoder_embed_dim=320, encoder_attention_heads=20, token_dropout=True
    )
    return {"cfg": {"model": settings}, "model": model}


@pytest.fixture(scope="session")
def fair_esm_file(fair_esm_content, tmp_path_factory) -> Path:
    import torch

    path = tmp_path_factory.mktemp("fair-esm") / "esm2_random.pt"
    torch.save(fair_esm_content, path)
    return path


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of heads that the original tool's way of saving wrote, and `scores.npz` of them."""
    folder = tmp_path_factory.mktemp("original")
    script = folder / "train.py"
    script.write_text(ORIGINAL)
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return folder
