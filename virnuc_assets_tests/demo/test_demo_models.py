import numpy as np
from safetensors.numpy import load_file

from virnuc_assets.demo.models import MODELS, write_demo_models


def test_the_bundled_models_are_what_the_generator_writes(tmp_path):
    write_demo_models(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    bundled = sorted(path.relative_to(MODELS) for path in MODELS.rglob("*") if path.is_file())
    assert made == bundled
    for name in made:
        if name.suffix == ".json":
            assert (tmp_path / name).read_text() == (MODELS / name).read_text()
        else:
            new, old = load_file(tmp_path / name), load_file(MODELS / name)
            assert new.keys() == old.keys()
            assert all(np.array_equal(new[tensor], old[tensor]) for tensor in new)


def test_they_are_small_and_say_that_nobody_trained_them():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 700_000
    for folder in ("esm2", "dnabert_s"):
        assert "demo (untrained)" in (MODELS / folder / "virnuc.json").read_text()
