"""The engine `transformers`: a model in this process, on the CPU or on one GPU.

torch and transformers are imported when a model is loaded, so that importing this module is cheap.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from grace.engines.base import Generation, GenerationRequest, Score, ScoreRequest
from grace.engines.reasoning import split_answer
from grace.engines.transformers import loading
from grace.errors import EngineError
from grace.models.hub import first_line
from grace.models.inspection import quantization_of
from grace.models.reasoning_formats import format_of
from grace.settings.config import ModelEntry, RequestsConfig, ScoringConfig

if TYPE_CHECKING:
    from grace.engines.rereading import Rereading
    from grace.engines.transformers.decoding import Answer


def preflight(model_key: str, entry: ModelEntry, root: Path) -> None:
    """Check what can be checked without loading the model: files or hub, and the GPU.

    torch is imported only for a model that needs a GPU. Raises `EngineError`.
    """
    loading.find(model_key, entry, root)
    if entry.gpus:
        loading.device(model_key, entry)


def load(model_key: str, entry: ModelEntry, root: Path) -> loading.LoadedModel:
    """The model of an entry. Raises `EngineError` where it cannot be loaded."""
    source = loading.find(model_key, entry, root)
    device = loading.device(model_key, entry)
    model, tokenizer = loading.load(model_key, entry, source, root, device)
    return loading.LoadedModel(model, tokenizer, device)


class TransformersEngine:
    """An open model. See `grace.engines.base.Engine`.

    Args:
        model_key: The model's key in config/models.yaml, for messages.
        entry: Its entry. `gpus: 0` runs on the CPU, `gpus: 1` on CUDA or else on MPS.
        requests: `concurrency` is the most rows in one decoding batch; the other fields are about
            transport and do not apply.
        scoring: Limits of one forward pass when measuring.
        root: The project's root; `entry.name` may be a folder below it.
        threads: CPU threads of torch, until the engine is closed.
        loaded: The model, where it is loaded already.

    Raises `EngineError` where the model cannot be loaded or run.
    """

    def __init__(
        self,
        model_key: str,
        entry: ModelEntry,
        *,
        requests: RequestsConfig,
        root: Path,
        threads: int,
        scoring: ScoringConfig | None = None,
        loaded: loading.LoadedModel | None = None,
    ) -> None:
        loaded = loaded or load(model_key, entry, root)
        import torch

        from grace.engines.transformers.constrained import Vocabulary
        from grace.engines.transformers.decoding import Decoder
        from grace.engines.transformers.scorer import Scorer

        self._model_key = model_key
        self._entry = entry
        self._concurrency = requests.concurrency
        self._threads_before = torch.get_num_threads()
        model, self._tokenizer, device = loaded.model, loaded.tokenizer, loaded.device
        torch.set_num_threads(threads)
        config = model.config.get_text_config()
        self._vocabulary: int = model.get_input_embeddings().num_embeddings
        self._max_len = min(
            entry.max_model_len,
            getattr(config, "max_position_embeddings", None) or entry.max_model_len,
        )
        self._stop_ids = _stop_ids(model, self._tokenizer)
        self._marks = format_of(entry.reasoning).marks if entry.reasoning else ()
        self._unseen = _special_ids(self._tokenizer, self._marks) if self._marks else frozenset()
        self._decoder = Decoder(
            model,
            concurrency=requests.concurrency,
            max_len=self._max_len,
            stop_ids=self._stop_ids,
            text_of=self._text_of,
            vocabulary=Vocabulary(
                self._text_of,
                min(len(self._tokenizer), self._vocabulary),
                self._tokenizer.all_special_ids,
            ),
        )
        self._scorer = Scorer(model_key, model, scoring or ScoringConfig())
        self._facts = {
            "engine": "transformers",
            "version": _version(entry),
            "model": entry.name,
            "revision": getattr(model.config, "_commit_hash", None) or entry.revision,
            "device": device,
            "device_name": loading.device_name(device),
            "gpus": int(device != "cpu"),
            "tensor_parallel_size": 1,
            "cuda": torch.version.cuda if device == "cuda" else None,
            "dtype": str(model.dtype).removeprefix("torch."),
            "quantization": quantization_of(entry.name, entry.revision, root),
            **({"adapter": entry.adapter} if entry.adapter is not None else {}),
            "attention": model.config._attn_implementation,
            "threads": threads,
            "concurrency": requests.concurrency,
            "max_model_len": self._max_len,
            "stop_token_ids": sorted(self._stop_ids),
        }

    def describe(self) -> dict[str, Any]:
        """Versions, device, dtype, threads, the hub revision that was loaded, how it scored."""
        return {**self._facts, "scoring": self._scorer.describe()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the model's memory. The engine cannot be used afterwards."""
        import torch

        self._decoder.close()
        self._scorer.close()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        torch.set_num_threads(self._threads_before)

    @contextmanager
    def _explained(self, setting: str, what: str) -> Iterator[None]:
        """Turns exhausted GPU memory into an `EngineError` that names the setting to lower."""
        import torch

        try:
            yield
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"model '{self._model_key}': out of GPU memory at {what}. Lower `{setting}` in"
                f" config/config.yaml. {first_line(error)}."
            ) from None

    def _prompt_problem(self, ids: Sequence[int], room: int) -> str | None:
        """Why a prompt with `room` more tokens cannot be read; None if it can."""
        if not ids:
            return "the prompt is empty"
        if not all(0 <= id_ < self._vocabulary for id_ in ids):
            return f"the prompt holds a token id outside 0 to {self._vocabulary - 1}"
        if len(ids) + room > self._max_len:
            return (
                f"the prompt has {len(ids)} tokens; with {room} more it exceeds the"
                f" {self._max_len} that model '{self._model_key}' can hold (max_model_len)"
            )
        return None

    # Experiment 1

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        """Sample answers. `usage.completion_tokens` counts the stop token, as vLLM does."""
        refused: deque[Generation] = deque()

        def valid() -> Iterator[GenerationRequest]:
            for request in requests:
                problem = self._prompt_problem(request.prompt_token_ids, room=1)
                if problem:
                    refused.append(Generation(request.key, None, None, error=problem))
                else:
                    yield request

        with self._explained("requests.concurrency", f"{self._concurrency} answers at once"):
            for answer in self._decoder.answers(valid()):
                yield self._generation(answer)
                while refused:
                    yield refused.popleft()
        yield from refused

    def _generation(self, answer: Answer) -> Generation:
        if answer.reason == "broken":
            problem = "the model's output is not a number (NaN or infinite)"
            return Generation(answer.request.key, None, None, error=problem)
        text = answer.text
        if text is None:
            text = self._text_of(answer.tokens[:-1] if answer.reason == "stop" else answer.tokens)
        trace, closed = answer.request.closing is not None, None
        reasoning = None
        if not trace:
            reasoning, text, closed = split_answer(self._entry, text, answer.reason)
        return Generation(
            answer.request.key,
            text,
            answer.reason,
            usage={
                "prompt_tokens": len(answer.request.prompt_token_ids),
                "completion_tokens": len(answer.tokens),
            },
            reasoning=reasoning,
            completed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            processing_time_ms=(time.monotonic() - answer.started) * 1000,
            token_ids=tuple(answer.tokens) if trace else None,
            reasoning_closed=closed,
        )

    def _text_of(self, tokens: Sequence[int]) -> str:
        """The text of tokens without special ones, but those that mark a trace of reasoning."""
        text: str = self._tokenizer.decode(
            [id_ for id_ in tokens if id_ not in self._unseen],
            skip_special_tokens=not self._marks,
            clean_up_tokenization_spaces=False,
        )
        return text

    # Experiment 2

    def score(
        self, requests: Iterable[ScoreRequest], known: Container[str] = frozenset()
    ) -> Iterator[Score]:
        """Measure log-probabilities; all requests are read first, to share what they share.

        Known ones take part in planning, so that the others' values do not depend on how many
        there are.
        """
        pending = []
        for request in requests:
            problem = self._score_problem(request)
            if problem:
                if request.key not in known:
                    yield Score(request.key, None, None, error=problem)
            else:
                pending.append(request)
        with self._explained("scoring.max_batch_mib", "the measurement's passes"):
            yield from self._scorer.score(pending, known)

    def reread(self, requests: Sequence[ScoreRequest]) -> Iterator[Rereading]:
        """Measure requests that were measured before, in another way."""
        with self._explained("scoring.max_batch_mib", "a second reading"):
            yield from self._scorer.reread(requests)

    def _score_problem(self, request: ScoreRequest) -> str | None:
        if not request.continuations or not all(request.continuations):
            return "a continuation is empty"
        ids = {*request.terminator_ids, *(id_ for ids in request.continuations for id_ in ids)}
        if not all(0 <= id_ < self._vocabulary for id_ in ids):
            return f"a continuation or terminator id is outside 0 to {self._vocabulary - 1}"
        return self._prompt_problem(
            request.prompt_token_ids, room=max(map(len, request.continuations))
        )


def _version(entry: ModelEntry) -> str:
    """Of all libraries that compute."""
    import torch
    import transformers

    found = f"{transformers.__version__}, torch {torch.__version__}"
    if entry.adapter is None:
        return found
    import peft

    return f"{found}, peft {peft.__version__}"


def _special_ids(tokenizer: Any, marks: Collection[str]) -> frozenset[int]:
    """The tokens that stand for no text, but those whose names are `marks`."""
    named = {id_: token.content for id_, token in tokenizer.added_tokens_decoder.items()}
    special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    return frozenset(id_ for id_ in special if named.get(id_) not in marks)


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(id_ for id_ in (*ids, tokenizer.eos_token_id) if id_ is not None)
