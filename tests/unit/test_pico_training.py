"""pico's making: tokeniser, exact targets, trees, the loop; and the committed model itself."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from bundled_studies import STUDIES
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from grace.pico import paraphrases, simulator, training
from grace.pico.settings import Settings, Stage
from grace.prompts.variants import PromptSet
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).parents[2]
PICO = ROOT / "resources" / "models" / "pico"
STAGE = Stage(
    8,
    0.01,
    warmup_steps=2,
    bet_trees=1,
    free_trees=1,
    utterance_trees=2,
    free_answers=2,
)
SMALL = Settings(vocabulary=400, width=32, layers=2, heads=1, feed_forward=64, stages=(STAGE,))


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return PromptSet(ROOT / "config" / "prompts" / "seed")


@pytest.fixture(scope="module")
def tokeniser(prompts: PromptSet) -> PreTrainedTokenizerFast:
    return training.train_tokeniser(training.corpus(prompts, 1, 30), SMALL.vocabulary)


def ids_of(tokeniser: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokeniser(text, add_special_tokens=False)["input_ids"]
    return ids


def prefixes(text: str) -> list[str]:
    return [text[:end] for end in range(1, len(text))]


# Targets


def test_targets_are_the_next_tokens_of_the_trie() -> None:
    options = {(1, 9): 0.2, (2, 3, 9): 0.5, (2, 4, 9): 0.1, (2, 4, 5, 9): 0.2}
    targets = training.node_targets(options, (2, 4, 5, 9))
    assert targets == [
        pytest.approx({1: 0.2, 2: 0.8}),
        pytest.approx({3: 0.625, 4: 0.375}),
        pytest.approx({9: 1 / 3, 5: 2 / 3}),
        pytest.approx({9: 1}),
    ]


def test_targets_refuse_an_option_that_begins_another() -> None:
    with pytest.raises(ValueError, match="beginning of another"):
        training.node_targets({(1,): 0.5, (1, 2): 0.5}, (1, 2))


def test_targets_refuse_a_path_that_is_no_option() -> None:
    with pytest.raises(ValueError, match="none of the options"):
        training.node_targets({(1, 2): 0.5, (1, 3): 0.5}, (1,))


def test_targets_along_an_answer_multiply_to_its_probability(
    tokeniser: PreTrainedTokenizerFast,
) -> None:
    rng = random.Random(3)
    encoder = training.Encoder(tokeniser)
    for _ in range(20):
        process = simulator.study1_answer(paraphrases.study1_trial(rng))
        said = training.sample(process, rng)
        ids, targets = encoder.answer(process, said)
        assert tokeniser.decode(ids) == "".join(said) + training.END
        product = 1.0
        for token, target in zip(ids, targets, strict=True):
            assert sum(target.values()) == pytest.approx(1)
            product *= target[token]
        assert product == pytest.approx(simulator.probability(process, said))


# The tokeniser


def test_every_digit_is_a_token(tokeniser: PreTrainedTokenizerFast) -> None:
    tokens = tokeniser.convert_ids_to_tokens(ids_of(tokeniser, "100%, 2019 and 7"))
    assert [token for token in tokens if any(c.isdigit() for c in token)] == list("10020197")


def test_any_text_survives_the_tokeniser(tokeniser: PreTrainedTokenizerFast) -> None:
    for text in ("It wasn't terrible", "Ünïcode – “quotes”\n\n  spaces", "emoji 🙂, 10%\n"):
        assert tokeniser.decode(ids_of(tokeniser, text)) == text


def test_chat_template_has_one_bos_and_renders_to_the_same_ids(
    tokeniser: PreTrainedTokenizerFast,
) -> None:
    chat = [{"role": "user", "content": "How many of the 3 jars leak?"}]
    text = tokeniser.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokeniser.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert ids == ids_of(tokeniser, text)
    assert ids.count(tokeniser.bos_token_id) == 1
    answered = [*chat, {"role": "assistant", "content": "2"}]
    whole = tokeniser.apply_chat_template(answered, tokenize=False)
    assert whole == f"{text}2{training.END}"


def test_answers_never_merge_with_the_prompt_or_across_parts(
    tokeniser: PreTrainedTokenizerFast, prompts: PromptSet
) -> None:
    rng = random.Random(4)
    encoder = training.Encoder(tokeniser)
    for _ in range(10):
        for chat in training.chats(prompts, rng):
            text = tokeniser.apply_chat_template(
                list(chat.messages), tokenize=False, add_generation_prompt=True
            )
            said = training.sample(chat.process, rng)
            answer, _ = encoder.answer(chat.process, said)
            whole = ids_of(tokeniser, text + "".join(said) + training.END)
            assert whole == [*encoder.prompt(chat.messages), *answer]


# Paraphrases


def test_paraphrases_are_diverse_and_cover_every_cell() -> None:
    rng = random.Random(5)
    first = [paraphrases.study1_trial(rng) for _ in range(300)]
    second = [paraphrases.study2_trial(rng) for _ in range(300)]
    assert {(t["access"], t["observe"]) for t in first} == set(paraphrases.CELLS)
    assert {(t["Goal_simplified"], t["State_number"]) for t in second} == {
        (goal, state) for goal in paraphrases.GOAL_LABELS for state in range(4)
    }
    assert len({t["story_setup"] for t in first}) > 290
    assert len({t["Goal"] for t in second}) > 200


def test_no_bundled_sentence_is_trained_on() -> None:
    rng = random.Random(6)
    trained = set(paraphrases.texts(rng, 3000))
    bundled: set[str] = set()
    for trial in read_trials(ROOT / "resources/stimuli/study1.csv", STUDIES["study1"]):
        row = trial.row()
        bundled |= {row["story_setup"], row["speach"], row["knowledgeQ"]}
    for trial in read_trials(ROOT / "resources/stimuli/study2.csv", STUDIES["study2"]):
        row = trial.row()
        bundled |= {row["Precontext"], row["Scenario"], row["Goal"]}
    assert not trained & bundled


# Trees and the loop


def test_a_tree_computes_what_its_prompts_compute_alone(
    tokeniser: PreTrainedTokenizerFast, prompts: PromptSet
) -> None:
    rng = random.Random(7)
    torch.manual_seed(0)
    model = training.new_llama(SMALL, tokeniser)
    trees = training.draw_trees(training.Encoder(tokeniser), prompts, STAGE, rng)
    for task, forest in trees.items():
        together = training.divergence(model, training.collate(forest))
        branches = [branch for tree in forest for branch in tree]
        alone = [training.divergence(model, training.collate([[b]])) for b in branches]
        assert float(together) == pytest.approx(float(sum(alone)) / len(branches), rel=1e-4), task


def test_divergence_is_that_of_a_plain_forward_pass(tokeniser: PreTrainedTokenizerFast) -> None:
    rng = random.Random(8)
    torch.manual_seed(0)
    model = training.new_llama(SMALL, tokeniser)
    chat = training.Chat(
        ({"role": "user", "content": "yes or no?"},), simulator.closed({"yes": 0.3, "no": 0.7})
    )
    (branch,) = training.Encoder(tokeniser).branches(chat, rng)
    logits = model(torch.tensor([branch.prompt + branch.answer])).logits[0].log_softmax(-1)
    expected = sum(
        p * (torch.tensor(p).log() - logits[len(branch.prompt) - 1 + step, token])
        for step, target in enumerate(branch.targets)
        for token, p in target.items()
    )
    assert float(training.divergence(model, training.collate([[branch]]))) == pytest.approx(
        float(expected), rel=1e-4
    )


def test_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [training.learning_rate(STAGE, step) for step in range(STAGE.steps + 1)]
    assert rates[STAGE.warmup_steps] == pytest.approx(STAGE.learning_rate)
    assert all(before > after for before, after in pairwise(rates[STAGE.warmup_steps :]))
    assert rates[-1] == pytest.approx(0)


def test_training_is_repeatable_lowers_the_loss_and_saves_a_loadable_model(
    prompts: PromptSet, tmp_path: Path
) -> None:
    settings = replace(SMALL, stages=(replace(STAGE, steps=20), STAGE))
    history = training.build(prompts, tmp_path / "first", settings, corpus_trials=30)
    first, last = (sum(losses.values()) for losses in (history[0], history[-1]))
    assert len(history) == 28
    assert last < 0.5 * first
    begun = replace(settings, stages=(replace(STAGE, steps=6, zero_at=20),))
    again = training.build(prompts, tmp_path / "second", begun, corpus_trials=30)
    assert [losses["bets"] for losses in again] == pytest.approx(
        [losses["bets"] for losses in history[:6]], rel=1e-3
    )
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "first")
    tokeniser = AutoTokenizer.from_pretrained(tmp_path / "first")
    end = tokeniser.eos_token_id
    assert loaded.generation_config.eos_token_id == end == loaded.config.eos_token_id


def test_a_later_stage_can_go_on_from_a_model(
    tokeniser: PreTrainedTokenizerFast, prompts: PromptSet
) -> None:
    settings = replace(SMALL, stages=(replace(STAGE, steps=3), replace(STAGE, steps=2)))
    steps: list[int] = []

    def trained() -> training.LlamaForCausalLM:
        torch.manual_seed(0)
        return training.new_llama(SMALL, tokeniser)

    whole = training.train(trained(), tokeniser, prompts, settings)
    model = trained()
    training.train(model, tokeniser, prompts, replace(settings, stages=settings.stages[:1]))
    rest = training.train(
        model,
        tokeniser,
        prompts,
        settings,
        first_stage=1,
        after_step=lambda step, _: steps.append(step),
    )
    assert steps == [1, 2]
    assert [losses["free"] for losses in rest] == pytest.approx(
        [losses["free"] for losses in whole[3:]], rel=1e-3
    )


def test_settings_survive_a_round_trip_through_json() -> None:
    assert Settings.from_dict(json.loads(json.dumps(SMALL.as_dict()))) == SMALL
    with pytest.raises(TypeError, match="hue"):
        Settings.from_dict({**SMALL.as_dict(), "hue": "blue"})


# The committed model


def test_committed_pico_is_small_and_ends_its_turns() -> None:
    assert sum(path.stat().st_size for path in PICO.iterdir()) <= 6_000_000
    tokeniser = AutoTokenizer.from_pretrained(PICO)
    model = AutoModelForCausalLM.from_pretrained(PICO)
    assert model.dtype == torch.float32
    end = tokeniser.convert_tokens_to_ids(training.END)
    assert tokeniser.eos_token_id == end
    assert GenerationConfig.from_pretrained(PICO).eos_token_id == end
    chat = [
        {
            "role": "user",
            "content": "Ann baked a pie. Bob tried it. On a scale of 0 to 3 hearts, Bob would in"
            " truth give it 3 hearts.\n\nIf Bob wanted to be accurate, what would Bob be most"
            " likely to say?\n\nChoose one word from each bracket, and write only the finished"
            " sentence:\nIt [was/wasn't] [terrible/bad/good/amazing]",
        }
    ]
    prompt = tokeniser.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    ids = model.generate(**prompt, do_sample=False, max_new_tokens=20)[0].tolist()
    answer = ids[prompt["input_ids"].shape[1] :]
    assert answer[-1] == end
    assert tokeniser.decode(answer[:-1]) == "It was amazing"


def test_committed_pico_was_trained_with_the_committed_settings() -> None:
    record = json.loads((PICO / "training.json").read_text())
    assert record["settings"] == Settings().as_dict()
    assert record["loss"][-1]["bets"] < 0.01
