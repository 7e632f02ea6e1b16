"""The models that are measured: pico, and shapes with random weights, rebuilt from a seed.

Speed does not depend on what the weights are, so nothing is downloaded and nothing stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import PretrainedConfig

from grace.models.chat import ChatTokenizer
from grace.settings.config import ModelEntry

ROOT = Path(__file__).parents[2]
PICO = "resources/models/pico"
#: The random weights' seed.
SEED = 5
#: pico's special tokens: its tokeniser serves every model here.
_TOKENS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_LONGEST = 1024


@dataclass(frozen=True)
class BenchModel:
    """A model of the benchmark. `config` is None for pico, whose weights are in the repository.

    `trials` is how many it is measured on where every option of every trial counts. `served` says
    whether the model server is measured with it too.
    """

    key: str
    about: str
    trials: int
    config: Callable[[], PretrainedConfig] | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    served: bool = False

    @property
    def entry(self) -> ModelEntry:
        """As an entry of config/models.yaml; the folder exists only for pico."""
        return ModelEntry(
            name=PICO if self.config is None else self.key,
            tokenizer=PICO,
            engine="transformers",
            dtype=self.dtype,
            max_model_len=_LONGEST,
            gpus=int(self.device == "cuda"),
        )

    def tokenizer(self) -> ChatTokenizer:
        return ChatTokenizer(self.key, self.entry, ROOT)

    def load(self) -> Any:
        """The model on its device, ready to be read."""
        auto: Any = transformers.AutoModelForCausalLM
        dtype = getattr(torch, self.dtype)
        if self.config is None:
            model = auto.from_pretrained(
                ROOT / PICO, dtype=dtype, trust_remote_code=False, use_safetensors=True
            )
            return model.to(self.device).eval()
        torch.manual_seed(SEED)
        with torch.device(self.device):
            return auto.from_config(self.config(), dtype=dtype).eval()

    def save(self, model: Any, folder: Path) -> Path:
        """A folder that a model server can load: `folder`, or pico's own."""
        if self.config is None:
            return ROOT / PICO
        model.save_pretrained(folder)
        for file in (ROOT / PICO).glob("*token*.json"):
            shutil.copy(file, folder)
        return folder


def _llama_60m() -> PretrainedConfig:
    return transformers.LlamaConfig(
        vocab_size=131_072,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=_LONGEST,
        tie_word_embeddings=True,
        **_TOKENS,
    )


def _llama_250m() -> PretrainedConfig:
    return transformers.LlamaConfig(
        vocab_size=32_000,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=17,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=_LONGEST,
        tie_word_embeddings=True,
        **_TOKENS,
    )


def _llama_58m() -> PretrainedConfig:
    return transformers.LlamaConfig(
        vocab_size=32_000,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=_LONGEST,
        tie_word_embeddings=False,
        **_TOKENS,
    )


_SMALL: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": _LONGEST,
    "sliding_window": 64,  # shorter than the prompts
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    **_TOKENS,
}


def _gemma2_small() -> PretrainedConfig:
    return transformers.Gemma2Config(**_SMALL, intermediate_size=1024, query_pre_attn_scalar=32)


def _gpt_oss_small() -> PretrainedConfig:
    return transformers.GptOssConfig(
        **_SMALL, intermediate_size=256, num_local_experts=8, num_experts_per_tok=2
    )


def _gemma2_2b() -> PretrainedConfig:
    """Published shape: google/gemma-2-2b, config.json."""
    return transformers.Gemma2Config(
        vocab_size=256_000,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        max_position_embeddings=8192,
        **_TOKENS,
    )


def _llama3_8b() -> PretrainedConfig:
    """Published shape: meta-llama/Meta-Llama-3-8B, config.json."""
    return transformers.LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        **_TOKENS,
    )


MODELS = {
    model.key: model
    for model in (
        BenchModel("pico", "the bundled model: Llama, 1 M parameters", 36, served=True),
        BenchModel(
            "llama-58m",
            "Llama, 58 M parameters, random weights; vocabulary 32,000, of which pico's tokeniser"
            " uses the first 1,024",
            4,
            _llama_58m,
            served=True,
        ),
        BenchModel(
            "llama-60m",
            "Llama, 61 M parameters, random weights; vocabulary 131,072, whose projection is five"
            " sixths of a token's arithmetic",
            4,
            _llama_60m,
        ),
        BenchModel(
            "llama-250m",
            "Llama, 251 M parameters, random weights; vocabulary 32,000",
            2,
            _llama_250m,
        ),
        BenchModel(
            "gemma2-small",
            "Gemma-2, every other layer with a window of 64 tokens, random weights; vocabulary"
            " 8,192",
            12,
            _gemma2_small,
        ),
        BenchModel(
            "gpt-oss-small",
            "GPT-OSS: 2 of 8 experts a token, attention sinks, every other layer with a window of"
            " 64 tokens, random weights; vocabulary 8,192",
            12,
            _gpt_oss_small,
        ),
        BenchModel(
            "gemma-2-2b-shape",
            "the shape of Gemma-2-2B, random weights",
            36,
            _gemma2_2b,
            dtype="bfloat16",
            device="cuda",
            served=True,
        ),
        BenchModel(
            "llama-3-8b-shape",
            "the shape of Llama-3-8B, random weights",
            36,
            _llama3_8b,
            dtype="bfloat16",
            device="cuda",
            served=True,
        ),
    )
}


def measurable() -> list[str]:
    """Keys of the models that this machine can measure."""
    has_gpu = torch.cuda.is_available()
    return [key for key, model in MODELS.items() if has_gpu or model.device == "cpu"]
