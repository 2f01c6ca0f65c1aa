"""`virnuc embed` against fair-esm on the same file and checkpoint."""

from __future__ import annotations

import re
import subprocess
from argparse import Namespace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from virnuc_assets import __version__, embed_fasta
from virnuc_assets.encoders.encoder import EncoderSettings, load_encoder
from virnuc_assets.runner.job import Encoding
from virnuc_assets.store.atomic import temporary_of
from virnuc_assets.store.embeddings import Counts, Identity, Origin, shard_path, write_embeddings
from virnuc_assets_tests import untrained
from virnuc_assets_tests.cli.process import COMMAND, environment

TOLERANCE = 1e-5
RESIDUES = list("ACDEFGHIKLMNPQRSTVWY")


@pytest.fixture
def proteins(tmp_path) -> dict[str, str]:
    """Proteins of 1 to 1100 residues in no order, two of them the same, written wrapped."""
    rng = np.random.default_rng(5)
    lengths = [300, 1, 1100, 62, 1022, 7, *rng.integers(2, 400, 18), 33, 1023]
    sequences = {f"p{n}": "".join(rng.choice(RESIDUES, k)) for n, k in enumerate(lengths)}
    sequences["again"] = sequences["p3"]
    with (tmp_path / "proteins.fa").open("w") as handle:
        for name, sequence in sequences.items():
            handle.write(f">{name}\n")
            handle.writelines(sequence[at : at + 60] + "\n" for at in range(0, len(sequence), 60))
    return sequences


def extracted_means(checkpoint, fasta, regression) -> dict[str, torch.Tensor]:
    """What `esm-extract CHECKPOINT FASTA OUT --include mean` saves, record by record.

    fair-esm's own loader, file reader, batches, tokens and model; last layer, truncated at 1022
    residues. (The release on PyPI has these parts and not the script.)
    """
    import esm

    torch.save({"model": regression}, f"{checkpoint.with_suffix('')}-contact-regression.pt")
    with torch.serialization.safe_globals([Namespace]):
        model, alphabet = esm.pretrained.load_model_and_alphabet(str(checkpoint))
    model.eval()
    dataset = esm.FastaBatchedDataset.from_file(fasta)
    convert = alphabet.get_batch_converter(1022)
    means = {}
    for batch in dataset.get_batch_indices(4096, extra_toks_per_seq=1):
        labels, sequences, tokens = convert([dataset[row] for row in batch])
        with torch.no_grad():
            hidden = model(tokens, repr_layers=[model.num_layers])["representations"]
        for label, sequence, row in zip(labels, sequences, hidden[model.num_layers], strict=True):
            means[label] = row[1 : min(1022, len(sequence)) + 1].mean(0)
    return means


def test_embeddings_equal_what_esm_extract_gives(
    virnuc, proteins, fair_esm_file, fair_esm_model, tmp_path
):
    done = virnuc(
        *("embed", "proteins.fa", "-o", "out.h5", "--encoder", "esm2", "--device", "cpu"),
        *("--weights", fair_esm_file),
    )
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "out.h5") as file:
        ids = file["sequence_ids"].asstr()[:].tolist()
        values = file["embeddings"][:]
        facts = dict(file.attrs)
    assert ids == list(proteins)
    assert values.dtype == np.float32

    regression = {
        name: tensor
        for name, tensor in fair_esm_model.state_dict().items()
        if name.startswith("contact_head")
    }
    expected = extracted_means(fair_esm_file, tmp_path / "proteins.fa", regression)
    np.testing.assert_allclose(
        values, torch.stack([expected[name] for name in ids]).numpy(), atol=TOLERANCE, rtol=0
    )
    assert np.array_equal(values[ids.index("p3")], values[ids.index("again")])

    assert facts["model"] == "esm2_random"
    assert (facts["encoder"], facts["dtype"], facts["device"]) == ("esm2", "float32", "CPU")
    assert facts["truncated"] == 2
    assert facts["tool_version"] == __version__
    assert "model: esm2_random\n" in done.stdout
    assert f"out.h5: {len(proteins)} records, {len(proteins) - 1} unique sequences" in done.stdout
    assert "warning: 2 sequences were cut at the model's limit" in done.stderr
    assert not (tmp_path / ".out.h5.work").exists()


def test_an_embedding_can_be_validated_against_float32(virnuc, proteins, tmp_path):
    options = ("--encoder", "esm2", "--device", "cpu")
    done = virnuc(
        *("embed", "proteins.fa", "-o", "half.h5", *options, "--dtype", "bfloat16"),
        *("--validate", 10),
    )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("cosine to float32"))
    least, median = map(float, re.findall(r"0\.\d+|1\.0+", line))
    assert "of 10 sequences" in line
    assert 0.9 < least <= median <= 1

    done = virnuc("embed", "proteins.fa", "-o", "exact.h5", *options, "--exact")
    assert "float32, sdpa" in done.stdout
    assert "cosine" not in done.stdout
    with h5py.File(tmp_path / "half.h5") as half, h5py.File(tmp_path / "exact.h5") as exact:
        a, b = half["embeddings"][:], exact["embeddings"][:]
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.min() <= least + 1e-6


def test_weights_of_the_wrong_shape_are_one_sentence(refused, proteins, fair_esm_content, tmp_path):
    name = "encoder.sentence_encoder.layers.2.fc1.weight"
    model = {**fair_esm_content["model"], name: torch.zeros(7, 320)}
    torch.save({**fair_esm_content, "model": model}, tmp_path / "wrong.pt")
    said = refused(
        *("embed", "proteins.fa", "-o", "out.h5", "--encoder", "esm2", "--device", "cpu"),
        *("--weights", "wrong.pt"),
    )
    assert "wrong.pt: " in said
    assert "layers.2.fc1.weight should have shape (1280, 320) and has (7, 320)" in said
    assert not (tmp_path / "out.h5").exists()


def test_two_calls_on_one_output_take_turns(tmp_path):
    """Each output belongs to the call that finished last, ids and embeddings together."""
    files = {"a": ["MKV", "LLAGT"], "b": ["WWYYK", "CCHRDE"]}
    for name, sequences in files.items():
        records = "".join(f">{name}{i}\n{s}\n" for i, s in enumerate(sequences))
        (tmp_path / f"{name}.fa").write_text(records)
    calls = {
        name: subprocess.Popen(
            [*COMMAND, "embed", f"{name}.fa", "-o", "x.h5", "--encoder", "esm2", "--device", "cpu"],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in files
    }
    said = {name: call.communicate()[0] for name, call in calls.items()}
    assert [call.returncode for call in calls.values()] == [0, 0], said
    assert "is writing to this folder; waiting for it" in "".join(said.values())
    encoder = load_encoder(EncoderSettings("esm2", str(untrained.folder() / "esm2")))
    with h5py.File(tmp_path / "x.h5") as file:
        ids = file["sequence_ids"].asstr()[:].tolist()
        owner = ids[0][0]
        assert ids == [f"{owner}0", f"{owner}1"]
        expected = encoder.embed(files[owner]).values
        assert np.abs(file["embeddings"][:] - expected).max() <= TOLERANCE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fa", "b.fa", "x.h5"]


def test_what_a_killed_call_left_of_its_output_is_removed(tmp_path):
    """What calls for other outputs are writing stays."""
    fasta, output = tmp_path / "p.fa", tmp_path / "x.h5"
    fasta.write_text(">a\nMKV\n")
    job = embed_fasta.plan(fasta, output, Encoding("esm2", "weights.pt"))
    about = Identity("esm2", job.index_digest, "e", "float32", 1, 0, 0, 1)
    origin = Origin("model", "w", "CPU", "sdpa", "plain", 64, "truncate")
    shard = shard_path(Path(job.output), 0, 1)
    write_embeddings(shard, about, origin, Counts(), 2, [np.ones((1, 2), np.float32)])
    others = [".x.h5.gz.host.12.tmp", ".xxh5.host.12.tmp", ".y.h5.host.12.tmp"]
    for name in (".x.h5.other-host.345.tmp", *others):
        (tmp_path / name).touch()
    temporary_of(output).touch()
    embed_fasta.collect(job, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*others, "p.fa", "x.h5"]


INTERRUPTED_WHILE_IT_WRITES = """
import io, os, signal, sys
from virnuc_assets.cli.main import main
from virnuc_assets.store import hdf5

class File(io.FileIO):
    writes = 0

    def write(self, data):
        if ".out.h5." in str(self.name):
            File.writes += 1
            if File.writes == 5:
                os.kill(os.getpid(), signal.SIGINT)
        return super().write(data)

hdf5.FileIO = File
# A shell starts what it puts into the background with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["virnuc", "embed", "a.fa", "-o", "out.h5", "--encoder", "esm2"]
main()
"""


def test_an_interrupt_in_the_middle_of_hdf5_is_an_interrupt(tmp_path):
    (tmp_path / "a.fa").write_text(">a\nMKTAYIAKQR\n")
    done = subprocess.run(
        [COMMAND[0], "-c", INTERRUPTED_WHILE_IT_WRITES],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: interrupted; what is finished is kept")
    assert not (tmp_path / "out.h5").exists()
