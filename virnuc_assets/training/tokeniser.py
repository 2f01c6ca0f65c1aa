"""DNABERT-S's kind of tokeniser, learnt from DNA."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from virnuc_assets.store.atomic import atomic_path

_SPECIAL_TOKENS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def write_tokeniser(path: Path, texts: Iterable[str], vocabulary: int) -> None:
    """A byte-pair tokeniser like DNABERT-2's and DNABERT-S's, learnt from `texts` of DNA.

    Raises:
        StoreError: the file cannot be written.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=list("ACGTN"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    with atomic_path(path) as temporary:
        temporary.write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
