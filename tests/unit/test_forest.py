"""The planner: forests, passes, and what they cost. No model."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundled_studies import STUDIES
from engines_for_tests import ScriptedEngine
from hypothesis import given
from hypothesis import strategies as st

from grace.engines.base import ScoreRequest
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.models.chat import ChatTokenizer, Prompt
from grace.prompts.variants import PromptSet
from grace.scoring import subtrees
from grace.scoring.forest import ReadCollector, build_trie, distinct_prefixes, tokens_one_by_one
from grace.scoring.packing import Budget, Shape, logits_of, pack
from grace.settings.loading import load_models
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).parents[2]
SHAPE = Shape(heads=2, vocabulary=50, value_bytes=4, masks=1)
AMPLE = Budget(10**6, 10**12)

token_ids = st.integers(0, 3)
sequences = st.lists(token_ids, min_size=1, max_size=5).map(tuple)
queries = st.builds(
    SimpleNamespace,
    prompt_token_ids=sequences,
    continuations=st.lists(sequences, min_size=1, max_size=4).map(tuple),
    terminator_ids=st.lists(st.integers(4, 6), min_size=1, max_size=2).map(tuple),
)
trials = st.lists(queries, min_size=1, max_size=4)


def prefixes(trial) -> set[tuple[int, ...]]:
    """Every text that some sequence of the trial begins with."""
    return {
        (query.prompt_token_ids + continuation)[:length]
        for query in trial
        for continuation in query.continuations
        for length in range(1, len(query.prompt_token_ids + continuation) + 1)
    }


def seen(forest, node: int) -> list[int]:
    """The nodes that a node sees, by the rule of the mask."""
    at = forest.enters[node]
    return [k for k in range(forest.size) if forest.enters[k] <= at < forest.leaves[k]]


def value(prefix: tuple[int, ...], token: int) -> float:
    """A made-up log-probability, another after every prefix."""
    return -1 - (hash((prefix, token)) % 1000) / 1000


@given(trials)
def test_every_prefix_is_one_node_that_sees_exactly_its_own_text(trial):
    forest = build_trie(trial)
    texts = []
    for node in range(forest.size):
        ancestors = sorted(seen(forest, node), key=forest.depths.__getitem__)
        assert [forest.depths[k] for k in ancestors] == list(range(forest.depths[node] + 1))
        assert max(ancestors) == node  # after its ancestors, so that chunks can follow each other
        texts.append(tuple(forest.tokens[k] for k in ancestors))
    assert distinct_prefixes(trial) == forest.size
    assert len(set(texts)) == forest.size
    assert set(texts) == prefixes(trial)


@given(trials)
def test_reads_give_each_continuation_its_own_values(trial):
    forest = build_trie(trial)
    assert len(set(forest.reads)) == len(forest.reads)
    assert min(read.node for read in forest.reads) == forest.stem
    values = []
    for node, token in forest.reads:
        path = sorted(seen(forest, node), key=forest.depths.__getitem__)
        values.append(value(tuple(forest.tokens[k] for k in path), token))
    for query, (tokens, ends) in zip(trial, forest.collect(values), strict=True):
        for continuation, found, end in zip(query.continuations, tokens, ends, strict=True):
            text = query.prompt_token_ids
            for token, logprob in zip(continuation, found, strict=True):
                assert logprob == value(text, token)
                text = (*text, token)
            total = math.fsum(math.exp(value(text, t)) for t in set(query.terminator_ids))
            assert end == pytest.approx(math.log(total))


@given(st.lists(trials, min_size=1, max_size=6), st.integers(1, 60), st.integers(1, 30_000))
def test_batches_hold_every_forest_once_within_the_budget(many, tokens, memory):
    forests = [build_trie(trial) for trial in many]
    budget = Budget(tokens, memory)
    batches = pack(forests, budget, SHAPE)
    assert sorted(i for batch in batches for i in batch.members) == list(range(len(forests)))
    for batch in batches:
        rows, columns = len(batch.members), batch.stem + batch.tail
        assert [start for start, _ in batch.chunks] == [0, *(stop for _, stop in batch.chunks[:-1])]
        assert batch.chunks[-1][1] == columns
        assert rows == 1 or len(batch.chunks) == 1
        assert columns >= max(forests[i].size for i in batch.members)
        for start, stop in batch.chunks:
            logits = logits_of(start, stop, batch.stem)
            needed = SHAPE.memory(rows, stop - start, stop, logits)
            alone = rows == 1 and stop - start == 1  # less than one token cannot be read
            assert alone or rows * (stop - start) <= tokens
            assert alone or needed <= memory
    limit = sum(forest.size for forest in forests)
    assert sum(batch.token_forwards for batch in batches) <= 1.05 * limit


def follow(found, above):
    """Every pass with its rows, each as the nodes that it sees, before it and of its own."""
    for one in found:
        rows = [
            (above[parent], subtree.nodes)
            for parent, subtree in zip(one.parents, one.subtrees, strict=True)
        ]
        yield one, rows
        yield from follow(one.then, [(*seen, *nodes) for seen, nodes in rows])


@given(
    trials,
    st.integers(1, 60),
    st.integers(1, 30_000),
    st.sampled_from([0, 20, 12_000]),
)
def test_subtrees_read_every_node_once_after_its_ancestors(trial, tokens, memory, hidden):
    forest = build_trie(trial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subtrees, "costs_of", lambda _: subtrees.Costs(hidden, 0, 384))
        found = subtrees.passes(forest, Budget(tokens, memory), SHAPE)
    read = []
    for one, rows in follow(found, [()]):
        assert one.chunks[-1][1] == one.stem + one.tail
        assert [a for a, _ in one.chunks] == [0, *(b for _, b in one.chunks[:-1])]
        assert len(one.chunks) == 1 or len(rows) == 1
        assert max(b - a for a, b in one.chunks) * len(rows) <= tokens
        assert len(rows) * (one.stem + one.tail) <= 1.04 * sum(len(nodes) for _, nodes in rows)
        for (before, nodes), subtree in zip(rows, one.subtrees, strict=True):
            assert max(subtree.stem, len(nodes) - one.tail) <= one.stem
            for place, node in enumerate(nodes):
                assert set(seen(forest, node)) <= {*before, *nodes[: place + 1]}
                assert (node < forest.stem) == (place < subtree.stem)
            read += nodes
    assert sorted(read) == list(range(forest.size))
    assert sum(one.token_forwards for one in found) <= 1.04 * forest.size
    assert sum(one.passes for one in found) == sum(
        len(one.chunks) for one, _ in follow(found, [()])
    )


def test_larger_models_have_fewer_and_larger_passes():
    """pico's numbers were measured; a weight that is read from memory costs as much as products."""
    pico = dataclasses.replace(SHAPE, heads=4, layers=4, width=128, weights=1_000_000)
    assert subtrees.costs_of(pico) == subtrees.Costs(12_228, 0, 384)
    large = dataclasses.replace(SHAPE, heads=16, layers=17, width=1024, weights=250_000_000)
    costs = subtrees.costs_of(large)
    assert costs.streamed > 50_000
    assert costs.tokens == 1024
    # A trial that fits one pass saves a pass; of many, which fill passes, each saves a part of one.
    assert costs.worth(100, 400) == costs.started + costs.streamed
    assert costs.worth(256, 40_000) == costs.started + costs.streamed / 4
    # Wider attention makes hidden pairs dearer, more weights make passes dearer.
    assert subtrees.costs_of(dataclasses.replace(large, width=4096)).streamed < costs.streamed
    assert subtrees.costs_of(dataclasses.replace(large, weights=10**9)).streamed > costs.streamed


@given(trials)
def test_without_terminators_no_end_is_read_and_no_last_token(trial):
    ended = build_trie(trial)
    forest_queries = [SimpleNamespace(**{**vars(query), "terminator_ids": ()}) for query in trial]
    forest = build_trie(forest_queries)
    texts = {(*query.prompt_token_ids, *ids[:-1]) for query in trial for ids in query.continuations}
    assert forest.size == len({text[:n] for text in texts for n in range(1, len(text) + 1)})
    assert forest.size == distinct_prefixes(forest_queries)
    assert forest.size <= ended.size
    values = [float(-n) for n in range(len(forest.reads))]
    for (tokens, ends), query in zip(forest.collect(values), trial, strict=True):
        assert ends == ()
        assert [len(row) for row in tokens] == [len(ids) for ids in query.continuations]


@given(trials)
def test_large_branches_are_rows_of_one_pass_and_never_compared(trial):
    forest = build_trie(trial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subtrees, "costs_of", lambda _: subtrees.Costs(0, 0, 384))
        found = subtrees.passes(forest, AMPLE, SHAPE)
    for _, rows in follow(found, [()]):
        for before, nodes in rows:
            assert {*seen(forest, nodes[-1])} == {*before, *nodes}


@given(trials, st.integers(1, 60), st.integers(2_000, 30_000))
def test_passes_with_the_caches_they_need_stay_within_memory(trial, tokens, memory):
    shape = dataclasses.replace(SHAPE, cached=3)
    found = subtrees.passes(build_trie(trial), Budget(tokens, memory), shape)

    def check(passes, columns, held):
        for one in passes:
            rows = len(one.subtrees)
            for start, stop in one.chunks:
                logits = logits_of(start, stop, one.stem)
                needed = held + shape.memory(rows, stop - start, columns + stop, logits)
                assert needed <= memory or (rows == 1 and stop - start == 1)
            new = one.stem + one.tail
            check(one.then, columns + new, held + shape.cache(rows, columns + new))

    check(found, 0, 0)


@given(trials, st.randoms())
def test_a_query_is_given_once_when_its_last_read_is_there(trial, random):
    forest = build_trie(trial)
    values = [-1 - index / 8 for index in range(len(forest.reads))]
    order = random.sample(range(len(values)), len(values))
    collector = ReadCollector(forest, range(len(trial)))
    found = {}
    for number, read in enumerate(order):
        for query, result in collector.add([read], [values[read]]):
            assert query not in found
            found[query] = result
            own = {
                i for along in forest.queries[query] for i in (*along.tokens, *along.terminators)
            }
            assert read in own
            assert own <= set(order[: number + 1])
    assert [found[query] for query in range(len(trial))] == forest.collect(values)


def test_a_terminator_without_probability_adds_nothing():
    query = SimpleNamespace(prompt_token_ids=(1,), continuations=((2,),), terminator_ids=(5, 6))
    forest = build_trie([query])
    for ends, total in (
        ((-math.inf, -2.0), -2.0),
        ((-math.inf, -math.inf), -math.inf),
        ((-1000.0, -1000.0), -1000 + math.log(2)),
    ):
        ((_, (found,)),) = forest.collect([-1.0, *ends])
        assert found == pytest.approx(total)
    ((_, (found,)),) = forest.collect([-1.0, math.nan, -1.0])
    assert math.isnan(found)


@pytest.fixture(scope="module")
def study1_requests() -> list[ScoreRequest]:
    """What experiment 2 asks of pico for the 300 bundled trials of study 1."""
    entry = load_models(ROOT / "config/models.yaml")["pico"]
    study = STUDIES["study1"]
    run = Run("pico", entry.name, study, "exp2", 0, 1000, True)
    rows = read_trials(ROOT / "resources/stimuli/study1.csv", study, None)
    items = trial_prompts(run, rows, [PromptSet(ROOT / "config/prompts/seed")])
    engine = ScriptedEngine()
    assert len(list(run_scoring(run, items, ChatTokenizer("pico", entry, ROOT), engine))) == 300
    return engine.scored


@pytest.mark.parametrize("name", ["study1", "study2"])
def test_tokenising_only_the_end_gives_the_same_ids(name):
    entry = load_models(ROOT / "config/models.yaml")["pico"]
    tokenizer = ChatTokenizer("pico", entry, ROOT)
    study = STUDIES[name]
    wording = PromptSet(ROOT / "config/prompts/seed")
    for trial in read_trials(ROOT / f"resources/stimuli/{name}.csv", study, 12):
        for query in study.queries(trial, wording):
            prompt = tokenizer.render(query.messages)
            continuing = tokenizer.continuing(prompt)
            assert continuing != tokenizer.tokenise_all
            texts = [prompt.text + option for option in query.options]
            assert continuing(texts) == [tokenizer.tokenise(text) for text in texts]


def test_a_prompt_that_ends_otherwise_is_tokenised_whole():
    entry = load_models(ROOT / "config/models.yaml")["pico"]
    tokenizer = ChatTokenizer("pico", entry, ROOT)
    for text in ("no special token", "<|begin|>"):
        prompt = Prompt(text, tuple(tokenizer.tokenise(text)))
        texts = [f"{text} yes", f"{text} no"]
        assert tokenizer.continuing(prompt)(texts) == tokenizer.tokenise_all(texts)
    odd = Prompt("ids of another text<|user|>", tuple(tokenizer.tokenise("other<|user|> text")))
    texts = [f"{odd.text} yes", f"{odd.text} no"]
    assert tokenizer.continuing(odd)(texts) == tokenizer.tokenise_all(texts)


def test_study_1_reads_hardly_more_tokens_than_the_limit(study1_requests):
    groups: dict[str, list[ScoreRequest]] = {}
    for request in study1_requests:
        groups.setdefault(request.group, []).append(request)
    assert len(groups) == 36 + 1  # the null contexts
    # The first trial of a story asks for its prior, too.
    assert sorted(len(group) for group in groups.values()) == [5] * 31 + [9] * 6
    limit = sum(len(prefixes(group)) for group in groups.values())
    forests = [build_trie(group) for group in groups.values()]
    assert sum(forest.size for forest in forests) == limit
    shape = Shape(heads=4, vocabulary=1024, value_bytes=4, masks=1)
    batches = pack(forests, Budget(8192, 2**30), shape)
    assert sum(batch.token_forwards for batch in batches) <= 1.05 * limit
    assert len(batches) < 10
    by_trial = [subtrees.passes(forest, Budget(8192, 2**30), shape) for forest in forests]
    passes = [one for found in by_trial for one in found]
    assert sum(one.token_forwards for one in passes) <= 1.05 * limit
    # A prior branches off earlier than the other queries of its trial.
    assert sum(one.passes for one in passes) <= 3 * len(forests) + 2 * 6
    # Together, trials share what all prompts begin with.
    whole = build_trie(study1_requests)
    assert whole.size < 0.9 * limit
    together = subtrees.passes(whole, Budget(8192, 2**30), shape)
    assert sum(one.token_forwards for one in together) <= 1.01 * whole.size
    assert tokens_one_by_one(study1_requests) > 15 * limit


def test_the_log_states_the_plan_before_anything_runs(caplog):
    study = STUDIES["study1"]
    run = Run("pico", "pico", study, "exp2", 0, 1000, True)
    rows = read_trials(ROOT / "resources/stimuli/study1.csv", study, 300)
    items = trial_prompts(run, rows, [PromptSet(ROOT / "config/prompts/seed")])

    class Stopped(Exception):
        pass

    class Idle(ScriptedEngine):
        def score(self, requests):
            raise Stopped

    entry = load_models(ROOT / "config/models.yaml")["pico"]
    with caplog.at_level("INFO"), pytest.raises(Stopped):
        list(run_scoring(run, items, ChatTokenizer("pico", entry, ROOT), Idle()))
    assert (
        "2700 queries of 300 trials, 2496 of them repeated: 204 distinct and 5 null contexts, in 37"
        in (caplog.text)
    )
