"""Reasoning models: prompts and what follows a trace, as golden ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from reasoning_runs import (
    CLOSINGS,
    HI,
    ids_of,
    tokeniser_folders,
)
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from toy_reasoners import (
    FAMILIES,
    GPT_OSS,
    QWEN3,
    reasoner,
    write_tokenizer,
)
from transformers import PreTrainedTokenizerFast

from grace.errors import EngineError
from grace.experiments.thinking import after_trace
from grace.models.chat import ControlTokenError, tokenizer_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return tokeniser_folders(tmp_path_factory)


# --- prompts, as golden ids -----------------------------------------------------------------------


SYSTEM = (
    "system", "<|message|>", "You are ChatGPT, a large language model trained by OpenAI.\n"
    "Knowledge cutoff: 2024-06\nCurrent date: 2024-07-26\n\nReasoning: {}\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message.",
)  # fmt: skip
PROMPTS = {
    "qwen3": [
        "<|im_start|>", "user\nHi", "<|im_end|>", "\n", "<|im_start|>", "assistant\n",
        "<think>", "\n",
    ],
    "r1": ["<｜begin▁of▁sentence｜>", "<｜User｜>", "Hi", "<｜Assistant｜>", "<think>", "\n"],
    "gpt-oss": [
        "<|start|>", *SYSTEM, "<|end|>", "<|start|>", "user", "<|message|>", "Hi", "<|end|>",
        "<|start|>", "assistant",
    ],
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_golden_ids_of_prompts_and_of_what_follows_a_trace(folders, family):
    tokenizer = tokenizer_of("toy", reasoner(family), folders[family])
    loaded = tokenizer._tokenizer
    pieces = [piece.replace("{}", "medium") for piece in PROMPTS[family]]
    # Experiment 1's prompt, and that of a trace in experiment 2: one.
    assert tokenizer.render(HI).token_ids == ids_of(loaded, pieces)
    closing, lead = CLOSINGS[family]
    after = after_trace(tokenizer, ["yes", "no"], ["{}"])
    assert tokenizer.closing.token_ids == ids_of(loaded, closing)
    assert after.prompt_token_ids == ids_of(loaded, [*closing, *lead])
    assert after.option_token_ids == (ids_of(loaded, ["yes"]), ids_of(loaded, ["no"]))
    facts = tokenizer.facts()
    assert facts["opened_by"] == ("grace" if family == "qwen3" else "chat template")


def test_effort_stands_in_the_prompt_and_in_the_facts(folders):
    for effort in ("low", "high"):
        tokenizer = tokenizer_of("toy", reasoner("gpt-oss", effort=effort), folders["gpt-oss"])
        pieces = [piece.replace("{}", effort) for piece in PROMPTS["gpt-oss"]]
        assert tokenizer.render(HI).token_ids == ids_of(tokenizer._tokenizer, pieces)
        assert tokenizer.facts()["effort"] == effort


def test_thinking_off_is_the_templates_own_and_refused_where_it_has_none(folders, tmp_path):
    off = tokenizer_of("toy", reasoner("qwen3", thinking=False), folders["qwen3"])
    pieces = [*PROMPTS["qwen3"][:-1], "\n\n", "</think>", "\n\n"]
    assert off.render(HI).token_ids == ids_of(off._tokenizer, pieces)
    assert not off.thinks_about(HI)
    with pytest.raises(EngineError, match="offers no way to switch thinking off"):
        tokenizer_of("toy", reasoner("r1", thinking=False), folders["r1"])
    with pytest.raises(EngineError, match="not of GPT-OSS's harmony format"):
        tokenizer_of("toy", reasoner(format="harmony"), folders["qwen3"])
    write_tokenizer(tmp_path / "model", "qwen3", QWEN3.replace("<think>", "<thought>"))
    tokenizer = tokenizer_of("toy", reasoner(tags=["<thought>", "</thought>"]), tmp_path)
    with pytest.raises(EngineError, match="not made of tokens of its tokeniser's own"):
        assert tokenizer.closing


def test_text_that_would_open_or_close_a_trace_is_refused(folders):
    for family, planted in (("qwen3", "</think>"), ("gpt-oss", "<|channel|>")):
        tokenizer = tokenizer_of("toy", reasoner(family), folders[family])
        with pytest.raises(ControlTokenError, match="control token"):
            tokenizer.render(({"role": "user", "content": f"a {planted} b"},))


@pytest.mark.parametrize(
    ("trace", "left"),
    [
        (["<|channel|>", "analysis", "<|message|>", "why"],
         ["<|channel|>", "analysis", "<|message|>", "why", "<|end|>", "<|start|>", "assistant"]),
        (["<|channel|>", "analysis", "<|message|>", "why", "<|end|>"],
         ["<|channel|>", "analysis", "<|message|>", "why", "<|end|>", "<|start|>", "assistant"]),
        (["<|channel|>", "analysis", "<|message|>", "why", "<|end|>", "<|start|>", "assistant",
          "<|channel|>", "final"],
         ["<|channel|>", "analysis", "<|message|>", "why", "<|end|>", "<|start|>", "assistant"]),
        (["<|channel|>", "analysis", "<|message|>", "why", "<|channel|>", "final"],
         ["<|channel|>", "analysis", "<|message|>", "why", "<|end|>", "<|start|>", "assistant"]),
        (["<|channel|>", "analysis"], []),
    ],
)  # fmt: skip
def test_a_message_that_was_broken_off_is_ended_before_the_answer(folders, trace, left):
    tokenizer = tokenizer_of("toy", reasoner("gpt-oss"), folders["gpt-oss"])
    loaded = tokenizer._tokenizer
    assert tokenizer.broken_off(ids_of(loaded, trace)) == ids_of(loaded, left)


#: The example of a completion in github.com/openai/harmony, docs/format.md: "2 + 2 = 4" after a
#: thought. 200005 is `<|channel|>`, 200008 `<|message|>`, 200007 `<|end|>`, 200006 `<|start|>`.
PUBLISHED = (
    200005, 35644, 200008, 1844, 31064, 25, 392, 4827, 382, 220, 17, 659, 220, 17, 16842, 12295,
    81645, 13, 51441, 6052, 13, 200007, 200006, 173781, 200005, 17196, 200008, 17, 659, 220, 17,
    314, 220, 19, 13, 200002,
)  # fmt: skip
PUBLISHED_IDS = {
    "<|return|>": 200002, "<|constrain|>": 200003, "<|channel|>": 200005, "<|start|>": 200006,
    "<|end|>": 200007, "<|message|>": 200008, "<|call|>": 200012,
    "assistant": 173781, "analysis": 35644, "final": 17196,
}  # fmt: skip


def test_a_trace_ends_where_it_does_in_the_published_example(tmp_path):
    """A tokeniser of nothing but the format's own tokens, with the ids that they were given."""
    names = {name for name in PUBLISHED_IDS if name.startswith("<|")}
    backend = Tokenizer(WordLevel({**PUBLISHED_IDS, "?": 1}, unk_token="?"))
    backend.pre_tokenizer = Split(Regex(r"\w+|\s+|[^\w\s]+"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|return|>")
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.chat_template = GPT_OSS
    tokenizer.save_pretrained(tmp_path / "model")
    assert {name: tokenizer.get_vocab()[name] for name in PUBLISHED_IDS} == PUBLISHED_IDS
    found = tokenizer_of("toy", reasoner("gpt-oss"), tmp_path)
    assert found.closing.token_ids == (200005, 17196, 200008)
    assert found.cut(PUBLISHED) == PUBLISHED[:24]
    thought = PUBLISHED[:20]
    ended = (*thought, 200007, 200006, 173781)
    assert found.cut(thought) is None
    assert found.broken_off(thought) == ended
    # Broken off in its header, its end or the next header, or between them: the same end.
    for more in ((200007,), (200007, 200006), (200007, 200006, 173781, 200005, 17196)):
        assert found.broken_off((*thought, *more)) == ended


@pytest.mark.parametrize("family", FAMILIES)
def test_no_thought_of_an_earlier_turn_is_in_the_next_prompt(folders, family):
    """What Grace puts there is the answer; and a template that strips thoughts leaves it whole."""
    tokenizer = tokenizer_of("toy", reasoner(family), folders[family])
    chat = (*HI, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "So?"})
    turns = {
        "qwen3": ["<|im_start|>", "assistant\nyes", "<|im_end|>", "\n", "<|im_start|>",
                  "user\nSo?", "<|im_end|>", "\n"],
        "r1": ["<｜Assistant｜>", "yes", "<｜end▁of▁sentence｜>", "<｜User｜>", "So?"],
        "gpt-oss": ["<|start|>", "assistant", "<|channel|>", "final", "<|message|>", "yes",
                    "<|end|>", "<|start|>", "user", "<|message|>", "So?", "<|end|>"],
    }  # fmt: skip
    opens = {"qwen3": 4, "r1": 3, "gpt-oss": 2}[family]  # pieces that begin the answer
    first = [piece.replace("{}", "medium") for piece in PROMPTS[family]]
    pieces = [*first[:-opens], *turns[family], *first[-opens:]]
    assert tokenizer.render(chat).token_ids == ids_of(tokenizer._tokenizer, pieces)
