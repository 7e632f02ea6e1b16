"""Reasoning models: traces apart from answers, and what an entry may say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from reasoning_runs import (
    ROOT,
    tokeniser_folders,
)
from toy_reasoners import (
    reasoner,
)

from grace.engines.reasoning import split_answer
from grace.errors import ConfigError
from grace.experiments import preflight
from grace.models.reasoning_formats import FINAL, HarmonyFormat, ThinkFormat
from grace.settings import loading
from grace.settings.config import ModelEntry
from grace.settings.outputs import thinking_config
from grace.settings.project import Project


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return tokeniser_folders(tmp_path_factory)


# --- formats: what a model writes is hostile ------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("<think>\nwhy\n</think>\n\nyes", False, ("why", "yes", True)),
        ("why\n</think>\n\nyes", True, ("why", "yes", True)),  # the template opened it
        ("why</think>yes", False, ("why", "yes", True)),
        ("</think>yes", True, ("", "yes", True)),
        ("yes", False, (None, "yes", None)),  # it did not think
        ("yes", True, ("yes", "", False)),  # cut off: what looks like an answer is a thought
        ("<think>it is yes", False, ("it is yes", "", False)),
        ("<think>a<think>b</think>c</think>yes", False, ("a<think>b</think>c", "yes", True)),
        ("a</think>b</think>yes", True, ("a</think>b", "yes", True)),
        ("<think></think>\n<think>real</think>yes", False, ("</think>\n<think>real", "yes", True)),
        ("<think>a</think>yes<think>no, wait", False, ("a</think>yes<think>no, wait", "", False)),
        ("a</think>", True, ("a", "", True)),
        ("", True, ("", "", False)),
    ],
)
def test_a_trace_between_tags_is_told_from_its_answer(text, inside, expected):
    assert tuple(ThinkFormat().split(text, inside=inside)) == expected


MESSAGE = "<|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>"


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        (f"{ANALYSIS}why<|end|>{MESSAGE}{FINAL}yes<|return|>", True, ("why", "yes", True)),
        (f"{FINAL}yes", True, (None, "yes", True)),  # at low effort some answer at once
        (f"{ANALYSIS}it is yes", True, ("it is yes", "", False)),
        (f"{ANALYSIS}why<|end|>{MESSAGE}<|channel|>fin", True, ("why", "", False)),
        (f"{ANALYSIS}a<|end|>{MESSAGE}{ANALYSIS}b<|end|>{MESSAGE}{FINAL}yes", True,
         ("a\nb", "yes", True)),
        (f"{ANALYSIS}a<|end|>{MESSAGE}<|channel|>commentary to=f <|constrain|>json<|message|>{{}}"
         f"<|call|>{MESSAGE}{FINAL}yes", True, ("a\n{}", "yes", True)),
        # An answer that is taken back.
        (f"{FINAL}yes<|end|>{MESSAGE}{ANALYSIS}no, wait", True, ("yes\nno, wait", "", False)),
        (f"{FINAL}yes<|end|>{MESSAGE}", True, ("yes", "", False)),
        (f"{ANALYSIS}I must write {FINAL}yes", True, ("I must write", "yes", True)),
        ("yes", True, ("yes", "", False)),
        ("yes", False, (None, "yes", None)),
        (f"{ANALYSIS}{FINAL}", True, (None, "", True)),
        # An answer that the model constrained itself, as for JSON.
        (f"{ANALYSIS}why<|end|>{MESSAGE}<|channel|>final <|constrain|>json<|message|>yes<|return|>",
         True, ("why", "yes", True)),
        (f"{ANALYSIS}why<|end|>{MESSAGE}<|channel|>final<|constrain|>json<|message|>yes<|return|>",
         True, ("why", "yes", True)),
        (f"{ANALYSIS}why<|end|>{MESSAGE}<|channel|>finally<|message|>yes<|return|>",
         True, ("why\nyes", "", False)),
    ],
)  # fmt: skip
def test_channels_are_split_answer(text, inside, expected):
    assert tuple(HarmonyFormat().split(text, inside=inside)) == expected


@pytest.mark.parametrize(
    ("text", "trace", "finish", "expected"),
    [
        ("yes", "why", "stop", ("why", "yes", True)),  # a server with a reasoning parser
        ("", "why", "length", ("why", "", False)),
        ("", "why", "stop", ("why", "", False)),
        ("<think>more</think>yes", "why", "stop", ("why\nmore", "yes", True)),
        ("<think>more", "why", "length", ("why\nmore", "", False)),
        ("yes", None, "stop", (None, "yes", None)),
        ("it could be", None, "length", ("it could be", "", False)),
    ],
)
def test_a_server_may_separate_them_itself(text, trace, finish, expected):
    remote = reasoner(engine="endpoint", base_url="http://127.0.0.1:9/v1")
    assert tuple(split_answer(remote, text, finish, trace)) == expected


def test_of_a_model_without_a_declared_format_all_is_the_answer():
    plain = ModelEntry(name="model", gpus=0)
    assert tuple(split_answer(plain, "a</think>b", "stop")) == (None, "a</think>b", None)
    assert tuple(split_answer(plain, "b", "length", "a")) == ("a", "b", None)


@pytest.mark.parametrize(
    ("end", "instead"),
    [
        ("</think>", "`reasoning: {format: think}`"),
        (FINAL, "`reasoning: {format: harmony}`"),
        ("</thought>", "`reasoning: {format: think, tags: ['<thought>', '</thought>']}`"),
        ("sk-aaaaaaaaaaaaaaaaaaaaaaaa", "`reasoning: {format: think}`"),
        (7, "`reasoning: {format: think}`"),
        ("", "is no key any more. Take it out"),
        (None, "is no key any more. Take it out"),
    ],
)
def test_an_old_config_is_told_what_to_write_instead(tmp_path, end, instead):
    path = tmp_path / "models.yaml"
    path.write_text(json.dumps({"old": {"name": "model", "reasoning_end": end}}))
    with pytest.raises(ConfigError) as told:
        loading.load_models(path)
    said = str(told.value)
    assert said.count("\n") == 0
    assert "key 'old'" in said
    assert "`reasoning_end` is no key any more" in said
    assert instead in said
    assert "sk-" not in said
    for how in re.findall(r"`reasoning: (\{.*?\})` in", said):
        # What it says to write can be written.
        ModelEntry(name="model", prompting="reasoning", reasoning=yaml.safe_load(how))


# --- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"effort": "low"}, "`effort` is for the format `harmony` alone"),
        ({"format": "harmony", "thinking": False}, "cannot be switched off in the format"),
        ({"format": "harmony", "tags": ["<a>", "</a>"]}, "`tags` are for the format `think`"),
        ({"tags": ["<a>", "<a>"]}, "of which none holds the other"),
        ({"tags": ["<a>"]}, "at least 2"),
        ({"temperature": 0}, "at temperature 0 all of them are the same"),
        ({"traces": 0}, "greater than or equal to 1"),
        ({"lead": "Answer: "}, "spaces and line breaks alone"),
        ({"format": "tags"}, "'think' or 'harmony'"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
        ({"engine": "endpoint", "base_url": "http://h/v1", "thinking": False}, "to its server"),
    ],
)
def test_what_cannot_be_is_refused_when_the_config_is_read(change, message):
    with pytest.raises(ValueError, match=message):
        reasoner(**change)


@pytest.mark.parametrize("values", [{"prompting": "reasoning"}, {"reasoning": {"format": "think"}}])
def test_prompting_and_its_block_belong_together(values):
    with pytest.raises(ValueError, match="belong together"):
        ModelEntry(name="model", **values)


def test_an_endpoint_cannot_be_measured_after_thinking():
    remote = reasoner(engine="endpoint", base_url="http://127.0.0.1:9/v1")
    config = SimpleNamespace(experiments=["exp1", "exp2"])
    with pytest.raises(ConfigError, match="which endpoints neither give nor take"):
        preflight.check_tokenizers(config, {"far": remote})
    preflight.check_tokenizers(SimpleNamespace(experiments=["exp1"]), {"far": remote})


def test_what_makes_results_stale(monkeypatch):
    """How it is measured is experiment 2's alone; a chat's configuration is what it was."""
    plain = Project(ROOT, {"limit": 2})
    pico = plain.models["pico"]

    def outputs(**changes):
        reasoning = {"format": "think", **changes}
        entry = ModelEntry(
            **{**pico.model_dump(), "prompting": "reasoning", "reasoning": reasoning}
        )
        monkeypatch.setattr(
            "grace.settings.project.load_models", lambda _: {"pico": pico, "r": entry}
        )
        project = Project(ROOT, {"limit": 2, "models": ["pico", "r"]})
        assert project.model_configs["pico"] == plain.model_configs["pico"]
        assert project.wanted["prompts"] == plain.wanted["prompts"]
        assert project.promptings == ("chat",)
        return project.model_configs["r"], thinking_config(entry)

    first = outputs()
    assert "reasoning" not in plain.model_configs["pico"]
    own = {"traces": 3}, {"traces_max_tokens": 9}, {"temperature": 0.5}, {"lead": ""}
    for changes in (*own, {"at_budget": "leave out"}):
        model, measured = outputs(**changes)
        assert model == first[0]
        assert measured != first[1]
    model, measured = outputs(max_tokens=99)
    assert model != first[0]
    assert measured != first[1]
    model, measured = outputs(thinking=False)
    assert model != first[0]
    assert measured is None
