"""Twelve architectures with tiny random weights, and tokenisers that split numbers differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 320
WINDOW = 6
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_MIXED = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 512,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

#: Configurations by name; windows are shorter than any prompt of the tests.
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**_SIZES),
    "gemma2": lambda: transformers.Gemma2Config(**_SIZES, **_MIXED, query_pre_attn_scalar=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_SIZES, **_MIXED, query_pre_attn_scalar=8),
    "qwen2": lambda: transformers.Qwen2Config(**_SIZES, use_sliding_window=True, **_MIXED),
    "qwen3": lambda: transformers.Qwen3Config(**_SIZES),
    "mistral": lambda: transformers.MistralConfig(**_SIZES, sliding_window=WINDOW),
    "phi3": lambda: transformers.Phi3Config(**_SIZES, sliding_window=WINDOW),
    "olmo2": lambda: transformers.Olmo2Config(**_SIZES),
    "gpt2": lambda: transformers.GPT2Config(**_GPT2),
    "cohere2": lambda: transformers.Cohere2Config(**_SIZES, **_MIXED),
    "granite": lambda: transformers.GraniteConfig(
        **_SIZES, attention_multiplier=0.3, residual_multiplier=0.5, logits_scaling=2.0
    ),
    "mixtral": lambda: transformers.MixtralConfig(**_SIZES, **_EXPERTS, sliding_window=WINDOW),
    "gpt_oss": lambda: transformers.GptOssConfig(**_SIZES, **_MIXED, **_EXPERTS),
}


def build(architecture: str) -> Any:
    """The model with random weights, the same each time, in float32 and ready to be read."""
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture]())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("sinks"):
                weight.normal_()
    return model.eval()


@contextmanager
def in_float64(model: Any) -> Iterator[Any]:
    """The model in float64 all through.

    Modelling code rounds norms, softmax and rotary angles to float32 by name, which would hide
    errors below 1e-7; so the name means float64 meanwhile.
    """
    before = torch.get_default_dtype()
    with (
        mock.patch.object(torch, "float32", torch.float64),
        mock.patch.object(torch, "float", torch.float64),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        torch.set_default_dtype(torch.float64)
        try:
            yield model.double()
        finally:
            torch.set_default_dtype(before)


_TEXTS = [
    "Were there exactly 3 in the hall? 10% or 100% of 12 were terrible, bad or badly made. Answer:"
] * 9


def tokeniser(kind: str) -> Callable[[str], list[int]]:
    """Text to ids. `digit` splits numbers into digits, `triple` into threes, `byte` everything."""
    if kind == "byte":
        return lambda text: [3 + byte for byte in text.encode()]
    digits = {"digit": r"\d", "triple": r"\d{1,3}"}[kind]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(digits + r"| ?[^\s\d]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_TEXTS, trainer)
    return lambda text: bpe.encode(text).ids


def exact_experts(model: Any) -> None:
    """Mixtures of experts by plain matrix products: the grouped kernel knows no float64."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
