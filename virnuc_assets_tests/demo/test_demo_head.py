from __future__ import annotations

from pathlib import Path

import numpy as np

import virnuc_assets.demo
from virnuc_assets.classifier.head import load_head
from virnuc_assets.demo.head import write_demo_head

COMMITTED = Path(virnuc_assets.demo.__path__[0]) / "data" / "heads" / "demo"


def test_the_committed_head_is_what_the_script_makes(tmp_path: Path) -> None:
    write_demo_head(tmp_path / "demo")
    assert sorted(p.name for p in COMMITTED.iterdir()) == ["head.json", "head.safetensors"]
    for path in COMMITTED.iterdir():
        assert path.read_bytes() == (tmp_path / "demo" / path.name).read_bytes()


def test_the_demo_head_says_that_it_is_untrained_and_fits_the_demo_encoders() -> None:
    head = load_head(COMMITTED)
    assert head.card.label == "demo (untrained)"
    assert (head.card.dna_dim, head.card.protein_dim, head.card.hidden_dim) == (48, 64, 32)


def test_demo_scores_are_not_all_alike() -> None:
    rng = np.random.default_rng(0)
    scores = load_head(COMMITTED).score(
        rng.normal(size=(500, 48)).astype(np.float32), rng.normal(size=(500, 64)).astype(np.float32)
    )
    assert 0.2 < (scores[:, 1] > 0.5).mean() < 0.8
    assert scores[:, 1].std() > 0.1
