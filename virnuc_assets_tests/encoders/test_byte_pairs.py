"""Many sequences in one text have the tokens that each has by itself."""

import json

import numpy as np
import pytest

from virnuc_assets.encoders.byte_pairs import load_tokeniser
from virnuc_assets_tests import untrained

FOLDER = untrained.folder() / "dnabert_s"
SETTINGS = json.loads((FOLDER / "tokenizer.json").read_text())


def plainly(folder, sequences):
    """Each sequence tokenised by itself: tokens end to end, and boundaries."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    each = [tokenizer.encode(s.upper(), add_special_tokens=False).ids for s in sequences]
    return [token for tokens in each for token in tokens], np.cumsum([0, *map(len, each)])


def assert_as_plainly(folder, sequences):
    tokenise, _ = load_tokeniser(folder)
    tokens, offsets = tokenise(sequences)
    expected_tokens, expected_offsets = plainly(folder, sequences)
    assert tokens.dtype == np.int32
    assert offsets.dtype == np.int64
    assert tokens.tolist() == expected_tokens
    assert offsets.tolist() == expected_offsets.tolist()


@pytest.fixture
def folder_with(tmp_path):
    """A folder whose tokeniser has other settings than the published one."""

    def write(**changes):
        (tmp_path / "tokenizer.json").write_text(json.dumps(SETTINGS | changes))
        return tmp_path

    return write


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 300])
def test_mixed_lengths(count, sequences, mixed_lengths):
    lengths = mixed_lengths(300, 900)[:count]
    assert_as_plainly(FOLDER, sequences(lengths, "ACGTN"))


def test_lower_case_and_empty_sequences_and_other_letters(sequences, mixed_lengths):
    lengths = mixed_lengths(200, 90) - 1
    assert_as_plainly(FOLDER, sequences(lengths, "ACGTNacgtnRY-*. \té€[]"))


@pytest.mark.parametrize("intruder", ["AC[SEP]GT", "[sep]", "[SEP][SEP]", "[CLS]A[PAD]", "A[SE"])
def test_a_sequence_that_holds_a_special_token(intruder, sequences):
    around = sequences([40] * 150, "ACGT")
    around[70] = intruder
    assert_as_plainly(FOLDER, around)


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}},
        {"pre_tokenizer": None},
        {"normalizer": {"type": "Prepend", "prepend": "A"}},
        {"added_tokens": [token | {"single_word": True} for token in SETTINGS["added_tokens"]]},
    ],
)
def test_a_tokeniser_that_may_look_beyond_a_sequence(changes, folder_with, sequences, caplog):
    folder = folder_with(**changes)
    assert_as_plainly(folder, ["", "A A", *sequences([7, 30, 80] * 40, "ACGT")])
    assert "one by one" in caplog.text


def test_the_published_settings_are_taken_many_at_a_time():
    tokenise, _ = load_tokeniser(FOLDER)
    assert tokenise.apart
