"""Experiment 2 by lm-evaluation-harness 0.4.13, backend `hf`."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

from bench.measuring import System
from bench.models import PICO, ROOT
from bench.workload import Answers, Reference, Workload
from grace.errors import GraceError

BATCH_SIZES = (1, 4, 8, 16, 32, 64)
NOTE = (
    "lm-eval is given the rendered chat prompt as context and the option as continuation, which it"
    " tokenises to the same ids, and all trials in one call; it reads no end of the turn after an"
    " option. Options that differ in their last token alone share one of its passes."
)


def require() -> None:
    """Raise `GraceError` where lm-eval is not installed."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise GraceError(
            f"lm-evaluation-harness cannot be imported ({error}). `make bench` sets it up in"
            " .venv-bench; to do without it, name the other systems with --systems."
        ) from None


@functools.cache
def _watched() -> Any:
    """lm-eval's model class, which also keeps the token ids that it was asked for."""
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    class Watched(HFLM):  # type: ignore[misc]  # untyped where lm-eval is not installed
        """Tokenises and scores as its base class does."""

        def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> Any:
            self.encoded = [(*context, *option) for _, context, option in requests]
            return super()._loglikelihood_tokens(requests, *args, **kwargs)

    return Watched


def _open(model: Any, batch_size: int) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(ROOT / PICO, trust_remote_code=False)
    return _watched()(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def _ask(harness: Any, work: Workload, trials: int | None = None) -> Answers:
    from lm_eval.api.instance import Instance

    asked = list(work.asking(trials))
    requests = []
    for asking in asked:
        context = work.render(asking.query).text
        requests += [
            Instance("loglikelihood", {}, (context, option), number)
            for number, option in enumerate(asking.query.options)
        ]
    values = harness.loglikelihood(requests, disable_tqdm=True)
    answered = iter((ids, value) for ids, (value, _) in zip(harness.encoded, values, strict=True))
    return {one.key: [next(answered) for _ in one.query.options] for one in asked}


def best_batch_size(
    seconds: Callable[[int], float], sizes: Sequence[int]
) -> tuple[int, dict[int, float]]:
    """The fastest size, and the seconds that each took, the better of two runs.

    A size that does not fit in memory ends the search; the least one has to fit.
    """
    took: dict[int, float] = {}
    for size in sorted(sizes):
        try:
            took[size] = min(seconds(size), seconds(size))
        except torch.OutOfMemoryError:
            if not took:
                raise
            break
    return min(took, key=lambda size: took[size]), took


def system(
    model: Any, work: Workload, reference: Reference, sizes: Sequence[int], warm_up: int
) -> tuple[System, dict[str, Any]]:
    """lm-eval at the batch size that is best on `warm_up` trials, and how that was found."""

    def seconds(size: int) -> float:
        harness = _open(model, size)
        started = time.perf_counter()
        _ask(harness, work, warm_up)
        return time.perf_counter() - started

    best, took = best_batch_size(seconds, sizes)
    harness = _open(model, best)
    key = "lm-eval"
    return System(
        key,
        f"lm-eval hf, batches of {best}",
        lambda: _ask(harness, work),
        lambda found: reference.check(key, found),
        here=model.device.type == "cpu",
    ), {"batch_size": best, "seconds_by_batch_size": took, "warm_up_trials": warm_up}
