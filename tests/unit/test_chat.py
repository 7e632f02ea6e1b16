"""The tokeniser's short way to token ids against transformers' own call."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from tiny_model import build_tiny_model
from tokenizers import Tokenizer, processors

from grace.chat import ChatTokenizer
from grace.config import ModelEntry

ROOT = Path(__file__).parents[2]
TEXTS = ["", " ", "3", "100 %", "<s>user: 3<|end|>", "Ünïcödé 🦉 \n\n tab\t", "It was good. " * 100]


@pytest.fixture(scope="module")
def cutting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokeniser whose file asks for truncation, padding and a BOS of its own."""
    folder = build_tiny_model(tmp_path_factory.mktemp("cutting"))
    path = str(folder / "tokenizer.json")
    backend = Tokenizer.from_file(path)
    backend.enable_truncation(8)
    backend.enable_padding(length=16)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    backend.save(path)
    return folder


@pytest.mark.parametrize("which", ["pico", "cutting"])
def test_token_ids_are_those_of_transformers_own_call(which: str, cutting: Path) -> None:
    folder = ROOT / "resources/models/pico" if which == "pico" else cutting
    chat = ChatTokenizer("m", ModelEntry(name=str(folder)), ROOT)
    plain = transformers.AutoTokenizer.from_pretrained(folder)
    expected = plain(TEXTS, add_special_tokens=False)["input_ids"]
    assert max(map(len, expected)) > 100
    assert chat.tokenise_all(TEXTS) == expected
    assert [chat.tokenise(text) for text in TEXTS] == expected
