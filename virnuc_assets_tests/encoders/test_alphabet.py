import esm
import numpy as np

from virnuc_assets.encoders import alphabet

FAIR_ESM = esm.Alphabet.from_architecture("ESM-1b")


def test_tokens_are_fair_esms_in_fair_esms_order():
    assert list(alphabet.TOKENS) == FAIR_ESM.all_toks
    special = (FAIR_ESM.cls_idx, FAIR_ESM.padding_idx, FAIR_ESM.eos_idx, FAIR_ESM.unk_idx)
    assert special == (alphabet.CLS, alphabet.PAD, alphabet.EOS, alphabet.UNK)


def test_tokens_of_sequences_are_what_fair_esm_encodes(sequences):
    proteins = sequences([1, 40, 3, 200], alphabet="LAGVSERTIDPKQNFYMHWCXBUZO.-")

    tokens, offsets = alphabet.tokenise(proteins)

    assert tokens.dtype == np.int32
    for row, protein in enumerate(proteins):
        assert tokens[offsets[row] : offsets[row + 1]].tolist() == FAIR_ESM.encode(protein)


def test_lower_case_counts_as_upper_case_and_other_letters_are_unknown():
    tokens, offsets = alphabet.tokenise(["mkv", "MKV", "J*é€", ""])

    assert tokens[:3].tolist() == tokens[3:6].tolist()
    assert tokens[6:].tolist() == [alphabet.UNK] * 4
    assert offsets.tolist() == [0, 3, 6, 10, 10]
