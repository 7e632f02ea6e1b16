"""How fast experiment 2 is against one forward pass for every option.

Run `python scripts/bench_scoring.py`.
Systems are measured in turn, several times; tokenisation counts, loading the model does not. The
same token ids are asserted for all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from grace.chat import ChatTokenizer
from grace.config import ScoringConfig, load_models
from grace.engines.base import Score, ScoreRequest
from grace.engines.scorer import COPIES, PACKED, Scorer
from grace.experiments import Asked, Run, asked
from grace.measurement import run_scoring
from grace.prompts import PromptSet
from grace.scoring.joining import plan_query
from grace.stimuli import read_trials
from grace.studies import STUDIES

ROOT = Path(__file__).parents[1]
#: By query: the token ids of prompt and option, and the option's log-probability, in order.
Answers = dict[str, list[tuple[tuple[int, ...], float]]]


class Bench:
    """Study 1 with one model, which is in memory."""

    def __init__(self, model_key: str, trials: int) -> None:
        entry = load_models(ROOT / "config" / "models.yaml")[model_key]
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            ROOT / entry.name, dtype=torch.float32
        ).eval()
        self.tokenizer = ChatTokenizer(model_key, entry, ROOT)
        self.study = STUDIES["study1"]
        self.run = Run(model_key, entry.name, self.study, "exp2", 0, 1000, True)
        rows = read_trials(ROOT / "resources/stimuli/study1.csv", self.study, None)
        self.items: list[Asked] = asked(self.run, rows, [PromptSet(ROOT / "config/prompts/seed")])
        self.few = self.items[:trials]

    def requests(self, grouped: bool) -> list[ScoreRequest]:
        """Every query of the few trials, repeated ones too."""
        found = []
        for item in self.few:
            for query in self.study.queries(item.trial, item.prompts):
                prompt = self.tokenizer.render(query.messages)
                plan = plan_query(
                    self.tokenizer.continuing(prompt),
                    prompt.text,
                    prompt.token_ids,
                    query.options,
                )
                found.append(
                    ScoreRequest(
                        f"{item.position} {query.name}",
                        plan.prompt_token_ids,
                        plan.option_token_ids,
                        self.tokenizer.terminator_ids,
                        group=str(item.position) if grouped else None,
                    )
                )
        return found

    def naive(self) -> Answers:
        """One pass without a cache for every option, as in the original."""
        found: Answers = {}
        for item in self.few:
            for query in self.study.queries(item.trial, item.prompts):
                prompt = self.tokenizer.render(query.messages)
                start = len(prompt.token_ids)
                sums = []
                for option in query.options:
                    ids = self.tokenizer.tokenise(prompt.text + option)
                    with torch.inference_mode():
                        output = self.model(input_ids=torch.tensor([ids]), use_cache=False)
                        logprobs = torch.log_softmax(output.logits[0].float(), -1)
                        places = range(start - 1, len(ids) - 1)
                        sums.append((tuple(ids), float(logprobs[places, ids[start:]].sum())))
                found[f"{item.position} {query.name}"] = sums
        return found

    def scored(self, path: str, grouped: bool) -> Answers:
        """By our scorer, without its self-check and without joining repeated queries."""
        scorer = Scorer("bench", self.model, ScoringConfig())
        scorer.path = path
        requests = self.requests(grouped)
        # One trial after the other, so that none gains from what another has read.
        parts = groupby(requests, key=lambda request: request.group)
        scores = {s.key: s for _, part in parts for s in scorer.score(list(part))}
        return {request.key: _answers(request, scores[request.key]) for request in requests}

    def whole(self) -> list[dict[str, Any]]:
        """Experiment 2 of the whole study as a run does it, self-check included."""
        scorer = Scorer("bench", self.model, ScoringConfig())
        engine: Any = SimpleNamespace(score=lambda requests: scorer.score(list(requests)))
        records = list(run_scoring(self.run, self.items, self.tokenizer, engine))
        assert scorer.path == PACKED, scorer.reason
        return records


def _answers(request: ScoreRequest, score: Score) -> list[tuple[tuple[int, ...], float]]:
    assert score.token_logprobs is not None, score.error
    return [
        (request.prompt_token_ids + ids, sum(values))
        for ids, values in zip(request.continuations, score.token_logprobs, strict=True)
    ]


def _assert_same(one: Answers, other: Answers) -> None:
    assert one.keys() == other.keys()
    for key, answers in one.items():
        for (ids, value), (other_ids, other_value) in zip(answers, other[key], strict=True):
            assert ids == other_ids, key
            assert abs(value - other_value) < 1e-3, key


def _options(records: Sequence[dict[str, Any]]) -> int:
    return sum(len(query["options"]) for record in records for query in record["queries"])


def measure(model_key: str, trials: int, repetitions: int) -> dict[str, Any]:
    """Options a second of each system: median, least and most of the repetitions."""
    bench = Bench(model_key, trials)
    reference = bench.naive()
    count = sum(map(len, reference.values()))
    _assert_same(reference, bench.scored(COPIES, grouped=False))
    _assert_same(reference, bench.scored(PACKED, grouped=True))
    systems: dict[str, tuple[int, Callable[[], Any]]] = {
        "one pass an option": (count, bench.naive),
        "a prompt at a time (copies of the cache)": (
            count,
            lambda: bench.scored(COPIES, grouped=False),
        ),
        "a trial at a time (packed)": (count, lambda: bench.scored(PACKED, grouped=True)),
        "the whole study, repeated queries joined": (_options(bench.whole()), bench.whole),
    }
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(repetitions):
        for name, (options, system) in systems.items():
            started = time.perf_counter()
            system()
            speeds[name].append(options / (time.perf_counter() - started))
    naive = statistics.median(speeds["one pass an option"])
    return {
        "model": model_key,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trials": trials,
        "options_per_second": {
            name: {
                "median": statistics.median(values),
                "min": min(values),
                "max": max(values),
                "times_naive": statistics.median(values) / naive,
            }
            for name, values in speeds.items()
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pico")
    parser.add_argument("--trials", type=int, default=36, help="for all but the whole study")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(json.dumps(measure(arguments.model, arguments.trials, arguments.repetitions), indent=2))
