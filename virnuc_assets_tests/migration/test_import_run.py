"""Runs of the original tool as our files: all of it, nothing mixed up, nothing executed."""

import json

import h5py
import numpy as np
import polars as pl
import pytest
import torch

from virnuc_assets.errors import InputError
from virnuc_assets.import_run import import_run
from virnuc_assets.inspection import inspect

HEADER = "Sequence_ID\tPrediction\tscore1\tscore2\n"
TABLE = HEADER + (
    "r_1|x_chunk_1F1\tvirus\t0.25\t0.75\n"
    "r_1|x_chunk_1R2\tothers\t0.9\t0.1\n"
    "r_1|x_chunk_2F3\tvirus\t0.2\t0.8\n"
    "s_chunk_7_chunk_1R3\tothers\t0.75\t0.25\n"
)
NAMES = [line.split("\t")[0] for line in TABLE.splitlines()[1:]]


@pytest.fixture
def run(tmp_path):
    """A run as the original leaves it: a table, and merged features in two files."""
    folder = tmp_path / "run" / "sample_merged"
    folder.mkdir(parents=True)
    (folder / "prediction_results.txt").write_text(TABLE)
    features = torch.arange(20, dtype=torch.float32).reshape(4, 5)
    torch.save({"ids": NAMES[:3], "data": features[:3]}, folder / "output_0_merged.pt")
    torch.save({"ids": NAMES[3:], "data": [features[3]]}, folder / "output_1_merged.pt")
    return tmp_path / "run"


def test_scores_become_our_tables(run, tmp_path):
    found = import_run(run, tmp_path / "out", "VirNucPro 500")
    assert (found.frames, found.records, found.viral_records) == (4, 2, 1)
    records = pl.read_parquet(tmp_path / "out" / "records.parquet")
    # The first chunk's best P(others) is 0.9 and its best P(virus) 0.75, so it is other.
    assert records.select("id", "n_called_chunks", "n_viral_chunks", "is_virus").rows() == [
        ("r_1|x", 2, 1, True),
        ("s_chunk_7", 1, 0, False),
    ]
    assert set(records["model"]) == {"VirNucPro 500"}
    frames = pl.read_parquet(tmp_path / "out" / "frames.parquet")
    assert frames["name"].to_list() == NAMES
    assert frames.select("chunk", "frame").rows() == [(1, "F1"), (1, "R2"), (2, "F3"), (1, "R3")]


def test_merged_features_become_one_sealed_file(run, tmp_path):
    import_run(run, tmp_path / "out", "VirNucPro 500")
    with h5py.File(tmp_path / "out" / "merged.h5") as file:
        assert file["sequence_ids"].asstr()[:].tolist() == NAMES
        np.testing.assert_array_equal(file["embeddings"], np.arange(20).reshape(4, 5))
        assert file.attrs["model"] == "VirNucPro 500"
    assert inspect(tmp_path / "out" / "merged.h5", deep=True).faults == ()


def test_hdf5_embeddings_are_kept_too(tmp_path):
    (tmp_path / "run").mkdir()
    with h5py.File(tmp_path / "run" / "embeddings.h5", "w") as file:
        file["embeddings"] = np.ones((3, 2), np.float16)
        file["sequence_ids"] = ["a", "b", "c"]
    found = import_run(tmp_path / "run", tmp_path / "out", "m")
    assert (found.frames, found.embeddings) == (None, {"embeddings.h5": 3})
    with h5py.File(tmp_path / "out" / "embeddings.h5") as file:
        assert file["embeddings"].dtype == np.float32


def test_what_was_imported_is_said_with_its_digests(run, tmp_path):
    import_run(run, tmp_path / "out", "m")
    said = json.loads((tmp_path / "out" / "imported.json").read_text())
    assert set(said["sources"]) == {
        "sample_merged/prediction_results.txt",
        "sample_merged/output_0_merged.pt",
        "sample_merged/output_1_merged.pt",
    }
    assert (said["n_frames"], said["embeddings"]) == (4, {"merged.h5": 4})


class Bomb:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "prediction_results.txt").write_text(TABLE + "x\tvirus\t0\t1\n"), "frame"),
        (
            lambda f: (f / "prediction_results.txt").write_text(
                TABLE + NAMES[0] + "\tvirus\t0\t1\n"
            ),
            "is there twice",
        ),
        (
            lambda f: (f / "prediction_results.txt").write_text(
                HEADER + "a_chunk_1F1\tvirus\tnan\t1\n"
            ),
            "not numbers from 0 to 1",
        ),
        (lambda f: torch.save({"ids": ["a"]}, f / "output_0_merged.pt"), "no file of merged feat"),
        (
            lambda f: torch.save({"ids": Bomb()}, f / "output_0_merged.pt"),
            "no file of merged features",
        ),
        (
            lambda f: torch.save(
                {"ids": ["a"], "data": torch.ones(2, 5)}, f / "output_0_merged.pt"
            ),
            "mixes sequences up",
        ),
        (
            lambda f: torch.save(
                {"ids": ["a"], "data": torch.ones(1, 4)}, f / "output_0_merged.pt"
            ),
            "of two models",
        ),
        (
            lambda f: torch.save(
                {"ids": NAMES[3:], "data": torch.ones(1, 5)}, f / "output_0_merged.pt"
            ),
            "is there twice",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence(spoil, message, run, tmp_path, capsys):
    spoil(run / "sample_merged")
    with pytest.raises(InputError, match=message):
        import_run(run, tmp_path / "out", "m")
    assert not (tmp_path / "out" / "imported.json").exists()
    assert "executed" not in capsys.readouterr().out


def test_nothing_of_the_run_is_overwritten(run):
    with pytest.raises(InputError, match="lies in the run's own folder"):
        import_run(run, run / "kept", "m")


def test_a_damaged_hdf5_file_is_named_and_not_passed_over(run, tmp_path):
    (run / "embeddings.h5").write_bytes(b"half a file")
    with pytest.raises(InputError, match="is not a whole HDF5 file"):
        import_run(run, tmp_path / "out", "m")


def test_two_files_of_one_name_are_refused(tmp_path):
    for path in ("a/b.h5", "a_b.h5"):
        (tmp_path / "run" / path).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(tmp_path / "run" / path, "w") as file:
            file["embeddings"] = np.ones((1, 2), np.float32)
            file["sequence_ids"] = ["a"]
    with pytest.raises(InputError, match=r"would be a_b\.h5, as another file is"):
        import_run(tmp_path / "run", tmp_path / "out", "m")


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        import_run(tmp_path / "none", tmp_path / "out", "m")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no prediction_results\.txt, no \*_merged\.pt"):
        import_run(tmp_path / "empty", tmp_path / "out", "m")
