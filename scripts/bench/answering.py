"""Experiment 1 on a model server: answers of mixed length, asked for in four ways.

Same server, same prompts, same lengths, same seeds, and so the same answers.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bench import served
from bench.measuring import System
from bench.models import ROOT
from grace.engines.base import Decoding, Generation, GenerationRequest
from grace.engines.vllm import VllmEngine
from grace.errors import GraceError
from grace.models.chat import ChatTokenizer
from grace.prompts.variants import PromptSet
from grace.studies.catalogue import bundled
from grace.studies.stimuli import read_trials

BATCH = 10
SHORTEST, LONGEST = 4, 128
#: How far token counts may differ between systems, as a share: a rounded logit may end an answer
#: at another token when it is computed beside other answers.
MARGIN = 0.01
_TIMEOUT_S = 3600
#: vLLM's command-line tool needs metadata that its CPU package lacks; its benchmark does not.
_DRIVER = Path(__file__).with_name("vllm_benchmark.py")


def questions(tokenizer: ChatTokenizer, count: int) -> list[GenerationRequest]:
    """Study 2's prompts, each with a length drawn from 4 to 128 tokens and a seed of its own."""
    study = bundled(ROOT, "study2")["study2"]
    prompts = PromptSet(ROOT / "config/prompts/seed")
    trials = read_trials(ROOT / "resources/stimuli/study2.csv", study, count)
    draw = random.Random(0)
    found = []
    for number, trial in enumerate(trials):
        messages = study.messages(trial, prompts)
        decoding = Decoding(1.0, 1.0, draw.randint(SHORTEST, LONGEST))
        ids = tokenizer.render(messages).token_ids
        found.append(GenerationRequest(str(number), messages, ids, decoding, number))
    return found


class Tokens:
    """Counts tokens, and holds every system to the number of the first."""

    def __init__(self) -> None:
        self._expected: int | None = None
        #: Tokens of one run, by system.
        self.counts: dict[str, int] = {}

    def check(self, system: str, counts: Sequence[int]) -> int:
        """All tokens. Raises `GraceError` where they are not those of the other systems."""
        total = sum(counts)
        self._expected = self._expected or total
        self.counts[system] = total
        if abs(total - self._expected) > MARGIN * self._expected:
            raise GraceError(
                f"bench: '{system}' generated {total} tokens where another system generated"
                f" {self._expected}; they cannot be compared."
            )
        return total


def _counts(answers: Sequence[Generation]) -> list[int]:
    failed = [answer.error for answer in answers if answer.error]
    if failed:
        raise GraceError(f"bench: {len(failed)} answers failed; the first: {failed[0]}")
    return [answer.usage["completion_tokens"] for answer in answers]


def _in_batches(engine: VllmEngine, asked: Sequence[GenerationRequest]) -> list[Generation]:
    """Ten at a time, each ten waiting for the slowest of the ten before."""
    found: list[Generation] = []
    for start in range(0, len(asked), BATCH):
        found += engine.generate(asked[start : start + BATCH])
    return found


async def _all_at_once(url: str, bodies: Sequence[dict[str, Any]]) -> list[int]:
    async with httpx.AsyncClient(
        timeout=_TIMEOUT_S,
        limits=httpx.Limits(max_connections=None),
        trust_env=False,
        verify=False,  # plain HTTP; reading certificates would be timed
    ) as client:
        answers = await asyncio.gather(*(client.post(url, json=body) for body in bodies))
    return [answer.raise_for_status().json()["usage"]["completion_tokens"] for answer in answers]


def _body(model: str, request: GenerationRequest) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": list(request.prompt_token_ids),
        "temperature": request.decoding.temperature,
        "top_p": request.decoding.top_p,
        "max_tokens": request.decoding.max_tokens,
        "seed": request.seed,
    }


def _vllm_benchmark(
    url: str, model: str, tokenizer: str, bodies: Sequence[dict[str, Any]], scratch: Path
) -> dict[str, Any]:
    """The result of vLLM's own serving benchmark at an infinite rate of requests."""
    asked, answered = scratch / "requests.json", scratch / "result.json"
    asked.write_text(json.dumps(bodies), encoding="utf-8")
    options = {
        "--backend": "openai",
        "--base-url": url,
        "--model": model,
        "--tokenizer": tokenizer,
        "--dataset-name": "custom",  # others would change prompts and lengths
        "--num-prompts": str(len(bodies)),
        "--request-rate": "inf",
        "--result-dir": str(scratch),
        "--result-filename": answered.name,
    }
    done = subprocess.run(
        [
            *(str(served.serving_python()), "-P", str(_DRIVER), str(asked)),
            *(text for option in options.items() for text in option),
            *("--save-result", "--disable-tqdm"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise GraceError(f"bench: vLLM's own benchmark failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    if result["failed"]:
        raise GraceError(f"bench: {result['failed']} requests of vLLM's own benchmark failed.")
    return result


def systems(
    engine: VllmEngine,
    model: str,
    requests: Sequence[GenerationRequest],
    tokens: Tokens,
) -> list[System]:
    """Ours first, then what it is compared with."""
    bodies = [_body(model, request) for request in requests]
    facts = engine.describe()
    url = facts["base_url"]

    def benchmark() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="grace-bench-") as scratch:
            return _vllm_benchmark(url, model, facts["model"], bodies, Path(scratch))

    def system(key: str, name: str, run: Any, counts: Any, seconds: Any = None) -> System:
        return System(
            key,
            name,
            run,
            lambda result: tokens.check(key, counts(result)),
            prepare=lambda: served.forget(engine),
            own_seconds=seconds,
        )

    return [
        system("ours", "ours", lambda: list(engine.generate(requests)), _counts),
        system(
            "batches",
            f"batches of {BATCH} with a barrier",
            lambda: _in_batches(engine, requests),
            _counts,
        ),
        system(
            "saturated",
            "all requests at once, answers only counted",
            lambda: asyncio.run(_all_at_once(f"{url}/v1/completions", bodies)),
            list,
        ),
        system(
            "vllm-bench",
            "vLLM's own serving benchmark, infinite request rate",
            benchmark,
            lambda result: [result["total_output_tokens"]],
            lambda result: result["duration"],
        ),
    ]
