"""Tokenisers without a chat template, of three kinds, with added tokens."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

LETTERS = ["\u2581", *map(chr, range(10, 11)), *map(chr, range(33, 127))]
KINDS = ["bytes", "metaspace", "no beginning"]


def toy_tokenizer(folder: Path, kind: str) -> None:
    """One of a kind, in a folder."""
    if kind == "metaspace":
        backend = Tokenizer(models.Unigram([("<unk>", 0.0), *((c, -3.0) for c in LETTERS)], 0))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
    else:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.train_from_iterator(
            ["Story: the speaker said it.\n\nAnswer: 10%"] * 5,
            trainers.BpeTrainer(
                vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
            ),
        )
    backend.add_special_tokens(["<start>", "<stop>", "<turn!>"])
    backend.add_tokens(["  ", "zzyx"])
    bos = {} if kind == "no beginning" else {"bos_token": "<start>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<stop>", **bos).save_pretrained(
        folder
    )
