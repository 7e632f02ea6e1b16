"""The engine `transformers`: a model in this process, on the CPU or on one GPU.

torch and transformers are imported when a model is loaded, so that importing this module is cheap.
"""

from __future__ import annotations

import gc
import platform
import time
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from grace.config import ModelEntry, RequestsConfig, ScoringConfig
from grace.engines.base import Generation, GenerationRequest, Score, ScoreRequest
from grace.engines.reasoning import split_reasoning
from grace.errors import EngineError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from grace.engines.padded_cache import PaddedRows

#: Padded prompt tokens in one forward pass.
PROMPT_TOKENS = 4096
#: Kinds of layers whose cache is keys and values a token, or nothing.
PLAIN_LAYERS = {"full_attention", "sliding_attention", "chunked_attention", "dummy"}


def preflight(model_key: str, entry: ModelEntry, root: Path) -> None:
    """Check what can be checked without loading the model: files or hub, and the GPU.

    torch is imported only for a model that needs a GPU. Raises `EngineError`.
    """
    _find(model_key, entry, root)
    if entry.gpus:
        _device(model_key, entry)


def _find(model_key: str, entry: ModelEntry, root: Path) -> str:
    """The folder or hub id of the weights; raises `EngineError` where they are not to be had."""
    folder = root / entry.name
    where = f"model '{model_key}': name '{entry.name}'"
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EngineError(
                f"{where}: {folder} holds no config.json, so it is no model in the transformers"
                " format. Correct `name` in config/models.yaml."
            )
        return str(folder)
    if entry.name.count("/") > 1 or entry.name.startswith((".", "/", "~")):
        raise EngineError(
            f"{where}: there is no folder {folder}. Correct `name` in config/models.yaml, or put"
            " the model there."
        )
    _fetch_config(entry, where, folder)
    return entry.name


def _fetch_config(entry: ModelEntry, where: str, folder: Path) -> None:
    """Fetch the model's config.json, a few kB, from the hub or its cache."""
    from huggingface_hub import errors, hf_hub_download

    revision = f" at revision '{entry.revision}'" if entry.revision else ""
    try:
        hf_hub_download(entry.name, "config.json", revision=entry.revision)
    except errors.GatedRepoError:
        raise EngineError(
            f"{where} is gated on the Hugging Face hub. Accept its terms there and set HF_TOKEN."
        ) from None
    except errors.LocalEntryNotFoundError as error:
        raise EngineError(
            f"{where}: {folder} is no folder, and the Hugging Face hub cannot be reached"
            f" ({_first_line(error.__cause__ or error)}). Connect, or download the model first."
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise EngineError(
            f"{where}: {folder} is no folder, and the Hugging Face hub has no such model"
            f"{revision} for you ({_first_line(error)}). Correct `name` or `revision` in"
            " config/models.yaml, or set HF_TOKEN for a private model."
        ) from None


def _device(model_key: str, entry: ModelEntry) -> str:
    """`cuda`, `mps` or `cpu`; raises `EngineError` where the model needs a GPU and none is here."""
    import torch

    if entry.gpus == 0:
        return "cpu"
    if entry.gpus > 1:
        raise EngineError(
            f"model '{model_key}' needs {entry.gpus} GPUs, but the engine `transformers` uses one."
            " Set `engine: vllm`, or `gpus: 1` in config/models.yaml."
        )
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    raise EngineError(
        f"model '{model_key}' needs a GPU, and this machine has none that torch can use. Choose"
        " another model, set `gpus: 0` in config/models.yaml to run it on the CPU, or use the"
        " cluster."
    )


def _device_name(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    # The instruction set decides which kernels run, so it is what rounding depends on.
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


@dataclass
class _Answer:
    """One request while its answer is being sampled."""

    request: GenerationRequest
    limit: int
    draws: torch.Generator
    started: float
    tokens: list[int] = field(default_factory=list)


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
    ) -> None:
        source = _find(model_key, entry, root)
        import torch
        import transformers

        from grace.engines.scorer import Scorer

        self._model_key = model_key
        self._entry = entry
        self._concurrency = requests.concurrency
        self._threads_before = torch.get_num_threads()
        device = _device(model_key, entry)
        self._model, self._tokenizer = self._load(source, root, device)
        torch.set_num_threads(threads)
        config = self._model.config.get_text_config()
        self._vocabulary: int = self._model.get_input_embeddings().num_embeddings
        self._max_len = min(
            entry.max_model_len,
            getattr(config, "max_position_embeddings", None) or entry.max_model_len,
        )
        self._stop_ids = self._find_stop_ids()
        self._scorer = Scorer(model_key, self._model, scoring or ScoringConfig())
        self._facts = {
            "engine": "transformers",
            "version": f"{transformers.__version__}, torch {torch.__version__}",
            "model": entry.name,
            "revision": getattr(self._model.config, "_commit_hash", None) or entry.revision,
            "device": device,
            "device_name": _device_name(device),
            "dtype": entry.dtype,
            "attention": self._model.config._attn_implementation,
            "threads": threads,
            "concurrency": requests.concurrency,
            "max_model_len": self._max_len,
            "stop_token_ids": sorted(self._stop_ids),
        }

    def _load(self, source: str, root: Path, device: str) -> tuple[Any, Any]:
        import torch
        import transformers

        entry = self._entry
        tokenizer_source = source
        if entry.tokenizer is not None:
            folder = root / entry.tokenizer
            tokenizer_source = str(folder) if folder.is_dir() else entry.tokenizer
        bars: Any = transformers.utils.logging
        bars_before = bars.is_progress_bar_enabled()
        bars.disable_progress_bar()
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                tokenizer_source,
                revision=entry.revision if tokenizer_source == source else None,
            )
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                source,
                revision=entry.revision,
                dtype=getattr(torch, entry.dtype),
                output_loading_info=True,
            )
            model, found = loaded
            if found["missing_keys"]:
                # transformers would fill these with random numbers.
                raise ValueError(f"the weights lack {', '.join(sorted(found['missing_keys'])[:3])}")
            self._refuse_recurrent(model)
            model = model.to(device).eval()
        except EngineError:
            raise
        except Exception as error:  # anything that a foreign file or the hub can cause
            raise EngineError(
                f"model '{self._model_key}': '{entry.name}' cannot be loaded: {_first_line(error)}."
            ) from error
        finally:
            if bars_before:
                bars.enable_progress_bar()
        return model, tokenizer

    def _refuse_recurrent(self, model: Any) -> None:
        """Rows of a padded cache need plain keys and values, which recurrent layers lack."""
        from transformers.cache_utils import get_layer_types_and_kwargs

        kinds = set(get_layer_types_and_kwargs(model.config.get_text_config(decoder=True))[0])
        if kinds - PLAIN_LAYERS:
            raise EngineError(
                f"model '{self._model_key}': the engine `transformers` does not know layers of the"
                f" kind {', '.join(sorted(kinds - PLAIN_LAYERS))}. Set `engine: vllm`."
            )

    def _find_stop_ids(self) -> frozenset[int]:
        configured = self._model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(id_ for id_ in (*ids, self._tokenizer.eos_token_id) if id_ is not None)

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

        self._model = None
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
                f" config/config.yaml. {_first_line(error)}."
            ) from None

    def _sampling(self) -> AbstractContextManager[None]:
        return self._explained("requests.concurrency", f"{self._concurrency} answers at once")

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
        """Sample answers; up to `concurrency` rows share a forward pass.

        A finished row leaves the batch at once, and waiting requests take the free rows as soon
        as a quarter of the rows is free (all of them, where few are waiting). `max_tokens` is cut
        to what `max_model_len` leaves. `usage.completion_tokens` counts the stop token, as
        vLLM does.
        """
        source = iter(requests)
        waiting: deque[GenerationRequest] = deque()
        active: list[_Answer] = []
        rows: PaddedRows | None = None
        logits: Tensor | None = None
        share = max(1, self._concurrency // 4)
        while True:
            waiting.extend(islice(source, self._concurrency - len(waiting)))
            free = self._concurrency - len(active)
            if waiting and (free >= share or free >= len(waiting)):
                admitted = []
                for request in [waiting.popleft() for _ in range(min(free, len(waiting)))]:
                    problem = self._prompt_problem(request.prompt_token_ids, room=1)
                    if problem:
                        yield Generation(request.key, None, None, error=problem)
                    else:
                        admitted.append(request)
                if admitted:
                    active, rows, logits = self._admit(admitted, active, rows, logits)
            if rows is None or logits is None:
                if waiting:
                    continue
                return
            active, rows, logits, finished = self._advance(active, rows, logits)
            yield from finished

    def _admit(
        self,
        requests: Sequence[GenerationRequest],
        active: list[_Answer],
        rows: PaddedRows | None,
        logits: Tensor | None,
    ) -> tuple[list[_Answer], PaddedRows, Tensor]:
        """Read the requests' prompts and merge them into the running batch."""
        import torch

        from grace.engines.padded_cache import PaddedRows, batches

        started = time.monotonic()
        active = list(active)
        parts = [] if rows is None else [rows]
        all_logits = [] if logits is None else [logits]
        same_prompt: dict[tuple[int, ...], list[GenerationRequest]] = {}
        for request in requests:
            same_prompt.setdefault(request.prompt_token_ids, []).append(request)
        prompts = list(same_prompt)
        with torch.inference_mode(), self._sampling():
            for batch in batches([len(prompt) for prompt in prompts], PROMPT_TOKENS):
                part, next_logits = PaddedRows.read(self._model, [prompts[i] for i in batch])
                copies = [row for row, i in enumerate(batch) for _ in same_prompt[prompts[i]]]
                if len(copies) > len(batch):
                    part, next_logits = part.select(copies), next_logits[copies]
                parts.append(part)
                all_logits.append(next_logits)
                for i in batch:
                    for request in same_prompt[prompts[i]]:
                        room = self._max_len - len(request.prompt_token_ids)
                        active.append(
                            _Answer(
                                request,
                                min(request.decoding.max_tokens, room),
                                torch.Generator().manual_seed(request.seed),
                                started,
                            )
                        )
            return active, PaddedRows.merge(parts), torch.cat(all_logits)

    def _advance(
        self, active: list[_Answer], rows: PaddedRows, logits: Tensor
    ) -> tuple[list[_Answer], PaddedRows | None, Tensor | None, list[Generation]]:
        """Draw a token for every row, drop the rows that are finished, read the others' tokens."""
        import torch

        with torch.inference_mode(), self._sampling():
            numbers = torch.isfinite(logits.amax(-1)).tolist()
            drawn = self._draw(active, logits)
            finished: list[Generation] = []
            kept: list[int] = []
            for row, (answer, token) in enumerate(zip(active, drawn, strict=True)):
                if not numbers[row]:
                    finished.append(
                        Generation(
                            answer.request.key,
                            None,
                            None,
                            error="the model's output is not a number (NaN or infinite)",
                        )
                    )
                    continue
                answer.tokens.append(token)
                if token in self._stop_ids:
                    finished.append(self._finish(answer, answer.tokens[:-1], "stop"))
                elif len(answer.tokens) >= answer.limit:
                    finished.append(self._finish(answer, answer.tokens, "length"))
                else:
                    kept.append(row)
            if not kept:
                return [], None, None, finished
            if finished:
                rows = rows.select(kept)
                active = [active[row] for row in kept]
            tokens = torch.tensor([[drawn[row]] for row in kept], device=rows.mask.device)
            return active, rows, rows.extend(tokens)[:, -1], finished

    def _draw(self, active: Sequence[_Answer], logits: Tensor) -> list[int]:
        import torch

        from grace.engines.sampling import draw

        device = logits.device
        if device.type == "mps":  # it has no float64
            logits, device = logits.cpu(), torch.device("cpu")
        decoding = [answer.request.decoding for answer in active]
        tokens = draw(
            logits,
            torch.tensor([d.temperature for d in decoding], dtype=torch.float64, device=device),
            torch.tensor([d.top_p for d in decoding], dtype=torch.float64, device=device),
            torch.cat(
                [torch.rand(1, generator=answer.draws, dtype=torch.float64) for answer in active]
            ).to(device),
        )
        return [int(token) for token in tokens.tolist()]

    def _finish(self, answer: _Answer, tokens: list[int], reason: str) -> Generation:
        text = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        reasoning = None
        if self._entry.reasoning_end is not None:
            reasoning, text = split_reasoning(text, self._entry.reasoning_end)
        return Generation(
            answer.request.key,
            text,
            reason,
            usage={
                "prompt_tokens": len(answer.request.prompt_token_ids),
                "completion_tokens": len(answer.tokens),
            },
            reasoning=reasoning,
            completed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            processing_time_ms=(time.monotonic() - answer.started) * 1000,
        )

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

    def _score_problem(self, request: ScoreRequest) -> str | None:
        if not request.continuations or not all(request.continuations):
            return "a continuation is empty"
        if not request.terminator_ids:
            return "there are no terminator ids"
        ids = {*request.terminator_ids, *(id_ for ids in request.continuations for id_ in ids)}
        if not all(0 <= id_ < self._vocabulary for id_ in ids):
            return f"a continuation or terminator id is outside 0 to {self._vocabulary - 1}"
        return self._prompt_problem(
            request.prompt_token_ids, room=max(map(len, request.continuations))
        )
