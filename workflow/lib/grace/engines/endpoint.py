"""The engine `endpoint`: a server that someone else runs and that speaks OpenAI's API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from grace.config import ModelEntry, RequestsConfig
from grace.engines import prompt_logprobs
from grace.engines.base import Generation, GenerationRequest, Score, ScoreRequest
from grace.engines.openai_http import (
    OpenAIClient,
    Stopwatch,
    api_key,
    first_choice,
    public_url,
    token_usage,
)
from grace.engines.pump import Pump
from grace.engines.reasoning import split_reasoning
from grace.errors import EngineError, RequestError


def preflight(model_key: str, entry: ModelEntry, *, requests: RequestsConfig) -> None:
    """Ask the endpoint which models it has.

    Raises `EngineError` where the key is not set or refused, nobody answers, or the endpoint
    lists its models and this is not among them. A list that it does not offer is no error.
    """
    with EndpointEngine(model_key, entry, requests=requests) as engine:
        known = engine.models()
    if known and entry.name not in known:
        raise EngineError(
            f"config/models.yaml: model '{model_key}': {public_url(api_root(entry))} has no model"
            f" named '{entry.name}'. It has: {', '.join(sorted(known)[:20])}."
        )


def api_root(entry: ModelEntry) -> str:
    """The URL below which the API's paths lie; `/v1` is added to a bare host."""
    assert entry.base_url is not None  # ModelEntry sees to it
    url = httpx.URL(entry.base_url)
    return str(url.copy_with(path="/v1")) if url.path in ("", "/") else entry.base_url


class EndpointEngine:
    """Asks a remote API; the key comes from the environment variable `entry.api_key_env`.

    Raises `EngineError` where that variable is not set.
    """

    def __init__(self, model_key: str, entry: ModelEntry, *, requests: RequestsConfig) -> None:
        self._model_key = model_key
        self._entry = entry
        self._requests = requests
        self._key = api_key(entry.api_key_env, model_key)
        self._fingerprint: str | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._pump = Pump()
            stack.callback(self._pump.close)
            self._client = OpenAIClient(
                self._model_key,
                self._base_url,
                self._requests,
                key=self._key,
                key_env=self._entry.api_key_env,
            )
            stack.callback(lambda: self._pump.run(self._client.close()))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def describe(self) -> dict[str, Any]:
        """`version` is what the endpoint calls its system fingerprint; it may be None."""
        return {
            "engine": "endpoint",
            "version": self._fingerprint,
            "model": self._entry.name,
            "device": None,
            "dtype": None,
            "base_url": public_url(api_root(self._entry)),
        }

    def models(self) -> list[str]:
        """Names of the models that the endpoint lists; none where it does not offer a list."""
        try:
            listed = self._pump.run(self._client.get("/models")).get("data")
        except RequestError:
            return []
        if not isinstance(listed, list):
            return []
        return [str(model["id"]) for model in listed if isinstance(model, dict) and "id" in model]

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        return self._pump.map(self._generate, requests, self._requests.concurrency)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        """Raises `EngineError` where the endpoint does not tell log-probabilities of prompts."""
        return self._pump.map(self._score, requests, self._requests.concurrency)

    async def _generate(self, request: GenerationRequest) -> list[Generation]:
        body = {
            "model": self._entry.name,
            "messages": list(request.messages),
            "temperature": request.decoding.temperature,
            "top_p": request.decoding.top_p,
            "max_tokens": request.decoding.max_tokens,
            "seed": request.seed,
        }
        watch = Stopwatch()
        try:
            answer = await self._client.post("/chat/completions", body)
            choice = first_choice(answer)
            message = choice.get("message")
            if not isinstance(message, dict):
                raise RequestError("the server's answer has no `message`")
        except RequestError as error:
            return [Generation(request.key, None, None, error=str(error))]
        completed_at, took_ms = watch.read()
        self._fingerprint = answer.get("system_fingerprint") or self._fingerprint
        text = message.get("content") or ""
        # Servers that split reasoning off themselves call it one of these.
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        if reasoning is None and self._entry.reasoning_end is not None:
            reasoning, text = split_reasoning(text, self._entry.reasoning_end)
        return [
            Generation(
                request.key,
                text,
                choice.get("finish_reason"),
                usage=token_usage(answer),
                reasoning=reasoning,
                completed_at=completed_at,
                processing_time_ms=took_ms,
            )
        ]

    async def _score(self, request: ScoreRequest) -> list[Score]:
        prompts = prompt_logprobs.prompts(request)
        try:
            answer = await self._client.post(
                "/completions",
                {
                    "model": self._entry.name,
                    "prompt": [list(prompt) for prompt in prompts],
                    "max_tokens": 1,
                    "temperature": 0,
                    "prompt_logprobs": 0,
                },
            )
        except RequestError as error:
            if prompt_logprobs.is_refusal(str(error)):
                raise EngineError(self._no_distributions(str(error))) from None
            return [Score(request.key, None, None, error=str(error))]
        if prompt_logprobs.are_missing(answer):
            raise EngineError(self._no_distributions("its answers lack `prompt_logprobs`"))
        self._fingerprint = answer.get("system_fingerprint") or self._fingerprint
        return [prompt_logprobs.score(request, answer)]

    def _no_distributions(self, reason: str) -> str:
        return (
            f"model '{self._model_key}': {public_url(api_root(self._entry))} gives no exact answer"
            f" distributions, so experiment 2 cannot be measured on it ({reason}). Run experiment 1"
            " alone with `experiments: [exp1]`, or serve the model with vLLM (`engine: vllm`)."
        )

    async def _base_url(self) -> str:
        return api_root(self._entry)
