"""Toy language models of which every string's probability is known, against what is recorded."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_architectures as tiny
import torch
from bundled_studies import STUDIES
from engines_for_tests import CharacterTokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from grace.engines.base import ScoreRequest
from grace.engines.transformers.scorer import Scorer
from grace.errors import EngineError
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.models.chat import ChatTokenizer
from grace.prompts.variants import PromptSet
from grace.results.tables import probability_rows
from grace.scoring.forest import build_trie
from grace.scoring.joining import plan_query
from grace.scoring.records import distribution, measured_query
from grace.settings.config import ModelEntry, ScoringConfig
from grace.studies.stimuli import read_trials

END = 0
ROOT = Path(__file__).parents[2]


class Toy:
    """Pieces of text as tokens, and a random distribution after every sequence of them.

    Token 0 ends an answer. The tokeniser takes the longest piece that fits.
    """

    def __init__(self, pieces: Sequence[str], seed: int = 3) -> None:
        self.pieces = ["", *pieces]
        self.seed = seed

    def tokenise(self, text: str) -> list[int]:
        ids = []
        while text:
            best = max((p for p in self.pieces if p and text.startswith(p)), key=len)
            ids.append(self.pieces.index(best))
            text = text[len(best) :]
        return ids

    def logprobs(self, prefix: tuple[int, ...]) -> list[float]:
        numbers = random.Random(f"{self.seed} {prefix}")
        weights = [numbers.random() ** 3 + 1e-3 for _ in self.pieces]
        return [math.log(weight / math.fsum(weights)) for weight in weights]

    def logprob(self, start: tuple[int, ...], ids: Sequence[int]) -> float:
        return math.fsum(
            self.logprobs((*start, *ids[:place]))[token] for place, token in enumerate(ids)
        )

    def measure(self, prompt: str, options: Sequence[str], forms: Sequence[str] = ("{}",)):
        """The record of a query, its reads filled from the toy."""
        ids = self.tokenise(prompt)
        plan = plan_query(partial(map, self.tokenise), prompt, ids, options, forms)
        request = ScoreRequest("q", plan.prompt_token_ids, plan.option_token_ids, (END,))
        forest = build_trie([request])
        values = []
        for node, token in forest.reads:
            at = forest.enters[node]
            path = [k for k in range(forest.size) if forest.enters[k] <= at < forest.leaves[k]]
            path.sort(key=forest.depths.__getitem__)
            values.append(self.logprobs(tuple(forest.tokens[k] for k in path))[token])
        ((tokens, ends),) = forest.collect(values)
        return measured_query("q", options, plan, tokens, ends)


def strings(letters: str, longest: int) -> list[str]:
    return [
        "".join(letters_)
        for length in range(1, longest + 1)
        for letters_ in itertools.product(letters, repeat=length)
    ]


def test_all_answers_up_to_a_length_leave_what_is_longer_or_empty():
    toy = Toy(["a", "b", "Q"])
    query = toy.measure("Q", strings("ab", 4))
    start = tuple(toy.tokenise("Q"))
    # Whatever is no such answer: at once the end, a Q before the end, or a fifth letter.
    letters = [toy.tokenise(letter)[0] for letter in "ab"]
    missed = math.exp(toy.logprob(start, (END,)))
    for length in range(5):
        for ids in itertools.product(letters, repeat=length):
            missed += math.exp(toy.logprob(start, (*ids, toy.pieces.index("Q"))))
    for ids in itertools.product(letters, repeat=5):
        missed += math.exp(toy.logprob(start, ids))
    assert query["terminated"]
    assert query["residual"] == pytest.approx(missed, abs=1e-12)
    assert query["option_mass"] + missed == pytest.approx(1, abs=1e-12)


def test_all_strings_of_one_length_need_no_terminator():
    toy = Toy(["a", "b", "c"])
    every = ["".join(letters) for letters in itertools.product("abc", repeat=3)]
    query = toy.measure("c", every)
    start = tuple(toy.tokenise("c"))
    ended = sum(
        math.exp(toy.logprob(start, (*ids, END)))
        for length in range(3)
        for ids in itertools.product((1, 2, 3), repeat=length)
    )
    assert not query["terminated"]
    assert query["residual"] == pytest.approx(ended, abs=1e-12)


@pytest.mark.parametrize(
    ("pieces", "options"),
    [
        (["b", "a", "d", "l", "y", "Q"], ["bad", "badly"]),
        (["bad", "ly", "b", "a", "d", "l", "y", "Q"], ["bad", "badly"]),
        (["1", "0", "Q"], ["10", "100", "1"]),
        (["100", "10", "1", "0", "Q"], ["10", "100", "1"]),
    ],
)
def test_an_option_that_begins_another_is_measured_to_its_end(pieces, options):
    toy = Toy(pieces)
    query = toy.measure("Q", options)
    start = tuple(toy.tokenise("Q"))
    exact = [math.exp(toy.logprob(start, (*toy.tokenise(option), END))) for option in options]
    assert query["terminated"]
    assert query["option_mass"] == pytest.approx(math.fsum(exact), abs=1e-12)
    assert query["option_mass"] <= 1
    assert distribution(query) == pytest.approx(
        {option: p / math.fsum(exact) for option, p in zip(options, exact, strict=True)}
    )


def test_a_merge_across_the_boundary_is_scored_as_the_model_would_read_it():
    toy = Toy(["It was ", "terri", "terrible", "bad", "ble", "fic"])
    query = toy.measure("It was terri", ["ble", "fic"])
    assert query["prompt_token_ids"] == [1]
    assert [option["token_ids"] for option in query["options"]] == [[3], [2, 6]]
    exact = [toy.logprob((1,), (3,)), toy.logprob((1,), (2, 6))]
    assert [option["logprob"] for option in query["options"]] == pytest.approx(exact)


def test_the_order_of_options_does_not_matter():
    toy = Toy(["1", "0", "%", "Q"])
    options = ["0%", "10%", "100%", "11%"]
    first, second = toy.measure("Q", options), toy.measure("Q", options[::-1])
    assert first["options"] == second["options"][::-1]
    assert first["option_mass"] == pytest.approx(second["option_mass"], abs=1e-15)


FORMS = ("{}", " {}", "{}.")


def test_the_forms_of_all_answers_leave_what_no_form_is():
    toy = Toy(["a", "b", " ", ".", "Q"])
    options = strings("ab", 2)
    query = toy.measure("Q", options, FORMS)
    start = tuple(toy.tokenise("Q"))
    ways = {form.replace("{}", option) for option in options for form in FORMS}
    longest = max(map(len, ways))
    # Every answer of up to the longest form's tokens that is none of them, and all that go on.
    missed = math.fsum(
        math.exp(toy.logprob(start, (*ids, END)))
        for length in range(longest + 1)
        for ids in itertools.product(range(1, 6), repeat=length)
        if "".join(toy.pieces[token] for token in ids) not in ways
    ) + math.fsum(
        math.exp(toy.logprob(start, ids))
        for ids in itertools.product(range(1, 6), repeat=longest + 1)
    )
    assert query["terminated"], "a form begins another"
    assert query["residual"] == pytest.approx(missed, abs=1e-12)
    assert query["option_mass"] + missed == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("forms", "terminated"), [(("{}", " {}"), False), (("{}", "{}."), True), ((" {}",), False)]
)
def test_an_option_is_as_likely_as_its_forms_together(forms, terminated):
    toy = Toy(["10", "1", "0", "%", " ", ".", " 10", "Q"])
    options = ["10%", "0%"]
    query = toy.measure("Q", options, forms)
    start = tuple(toy.tokenise("Q"))
    end = (END,) if terminated else ()
    summed = []
    for option, record in zip(options, query["options"], strict=True):
        texts = [form.replace("{}", option) for form in forms]
        ids = [toy.tokenise(text) for text in texts]
        assert record["text"] == option
        assert record["token_ids"] == ids[0]
        assert record["logprob"] == pytest.approx(toy.logprob(start, ids[0]))
        assert [form["text"] for form in record["surface_forms"]] == texts
        assert [form["token_ids"] for form in record["surface_forms"]] == ids
        assert [form["logprob"] for form in record["surface_forms"]] == pytest.approx(
            [toy.logprob(start, own) for own in ids]
        )
        summed.append(math.fsum(math.exp(toy.logprob(start, (*own, *end))) for own in ids))
        assert math.exp(record["logprob_summed"]) == pytest.approx(summed[-1], abs=1e-12)
    assert query["terminated"] is terminated
    assert query["option_mass"] == pytest.approx(math.fsum(summed), abs=1e-12)
    shares = [value / math.fsum(summed) for value in summed]
    assert distribution(query) == pytest.approx(dict(zip(options, shares, strict=True)))


# --- a real model, small enough to enumerate ------------------------------------------------------


def test_every_string_of_a_small_model_sums_to_one():
    """All strings of three tokens over the whole vocabulary, and all that end before."""
    torch.manual_seed(0)
    model = tiny.build("llama")
    model.resize_token_embeddings(7)
    every = tuple(itertools.product(range(3, 7), repeat=2))
    shorter = tuple((token,) for token in range(7))
    request = ScoreRequest("q", (1, 3, 4), every + shorter, (2,))
    with tiny.in_float64(model):
        (score,) = Scorer("tiny", model, ScoringConfig()).score([request])
    logs = [math.fsum(tokens) for tokens in score.token_logprobs]
    first = [math.exp(value) for value in logs[len(every) :]]
    assert math.fsum(first) == pytest.approx(1, abs=1e-12)
    # After each first token, its four second tokens and the terminator miss only tokens 0 and 1.
    for place, token in enumerate(range(3, 7)):
        inside = math.fsum(math.exp(v) for v in logs[4 * place : 4 * place + 4])
        ended = first[token] * math.exp(score.terminator_logprobs[len(every) + token])
        assert inside + ended < first[token]
        assert inside + ended > 0.1 * first[token]


def chat_folder(folder, template: str):
    words = ["<pad>", "<s>", "</s>", "Sure,", "Was", "it", "good?", "bad", "fine"]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<pad>"
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder / "model")
    entry = ModelEntry(name="model", engine="transformers", dtype="float32", gpus=0)
    return ChatTokenizer("tiny", entry, folder)


ONCE = "{{ bos_token }} {% for m in messages %}{{ m['content'] }} {% endfor %}"


def test_a_template_with_two_beginnings_is_refused(tmp_path):
    message = [{"role": "user", "content": "Was it good?"}]
    assert chat_folder(tmp_path, ONCE).render(message).token_ids == (1, 4, 5, 6)
    with pytest.raises(EngineError, match="gives 2 beginning-of-text tokens"):
        chat_folder(tmp_path, "{{ bos_token }} " + ONCE).render(message)


def test_a_model_that_first_says_sure_leaves_nearly_all_to_the_residual():
    model = tiny.build("llama")

    def say_sure(module, args, output):
        output[..., ord("S")] += 30

    model.lm_head.register_forward_hook(say_sure)
    scorer = Scorer("tiny", model, ScoringConfig())
    study = STUDIES["study2"]
    run = Run("tiny", "tiny", study, "exp2", 0, 1000, True)
    trials = read_trials(ROOT / "resources/stimuli/study2.csv", study, 1)
    items = trial_prompts(run, trials, [PromptSet(ROOT / "config/prompts/seed")])
    engine = SimpleNamespace(score=lambda requests: scorer.score(list(requests)))
    records = list(run_scoring(run, items, CharacterTokenizer(), engine))
    (query,) = records[0]["queries"]
    assert query["status"] == "ok"
    assert query["residual"] > 0.999
    (row,) = probability_rows(records, study, 0.5)
    assert row["quality_flags"] == "low_option_mass"
