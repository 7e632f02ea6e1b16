"""What is measured with which models, and where the results go."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench import answering, ceilings, harness, in_process, plain, served, table
from bench.measuring import System, measure, summary
from bench.models import MODELS, ROOT, BenchModel, measurable
from bench.workload import TOLERANCE, Reference, Workload
from grace.errors import GraceError
from grace.provenance import environment

logger = logging.getLogger("bench")

SCORING = (
    "naive",
    "every-position",
    "batch",
    "copies",
    "packed",
    "packed-lean",
    "lm-eval",
    "per-prompt",
    "per-trial",
    "per-trial-ends",
    "together",
    "together-ends",
    "whole",
    "whole-ends",
    "vllm",
)
GENERATION = "generation"
SYSTEMS = (*SCORING, GENERATION)
#: Servers' leases and logs. One lease for all, so that a server makes room for the next.
STATE = ROOT / ".grace" / "bench"
#: The models whose answers of mixed length are timed: random ones hardly ever end one early.
GENERATING = ("llama-58m", "gemma-2-2b-shape")


@dataclass(frozen=True)
class Extent:
    """How much is measured. None for `trials` is the model's own number, for `most` all."""

    repetitions: int = 5
    trials: int | None = None
    most: int | None = None
    batch_sizes: tuple[int, ...] = harness.BATCH_SIZES
    answers: int = 200
    generating: tuple[str, ...] = GENERATING


QUICK = Extent(
    repetitions=1, trials=1, most=12, batch_sizes=(1, 8), answers=12, generating=("pico",)
)


def scoring(model: BenchModel, chosen: Sequence[str], extent: Extent) -> dict[str, Any]:
    """Experiment 2 with one model. Raises `GraceError` where a system answers wrongly."""
    weights = model.load()
    trials = extent.trials or model.trials
    work = Workload(model.entry, model.tokenizer(), trials, extent.most)
    reference = Reference(plain.naive(weights, work), TOLERANCE[model.dtype])
    systems: list[System] = in_process.systems(weights, work, reference)
    notes = []
    if {"whole", "whole-ends"} & set(chosen):
        notes.append("The naive speed of the whole study is taken to be that of the fewer trials.")
    search = None
    version = None
    unserved = served.lacking(model) if "vllm" in chosen and model.served else None
    if unserved:
        logger.warning("%s is not measured on vLLM: %s", model.key, unserved)
        notes.append(f"Not measured on vLLM: {unserved}")
    with ExitStack() as stack:
        if "lm-eval" in chosen:
            found, search = harness.system(
                weights, work, reference, extent.batch_sizes, min(trials, 4)
            )
            systems.insert(
                next(n for n, one in enumerate(systems) if one.key == "per-prompt"), found
            )
            notes.append(harness.NOTE)
        if "vllm" in chosen and model.served and not unserved:
            engine = stack.enter_context(served.serving(model, weights, STATE))
            systems.append(served.system(engine, work, reference))
            version = engine.describe()["version"]
            notes.append(
                "The server has as many threads for computing as the other systems, and its prefix"
                " cache is emptied before every run; beside it run its HTTP process and our client."
            )
        systems = [system for system in systems if system.key in (*chosen, "naive")]
        rates = measure(systems, extent.repetitions)
    limits = ceilings.ceilings(weights, work)
    return {
        "kind": "scoring",
        **_facts(model, extent, vllm=version),
        "trials": len(work.few),
        "options": sum(len(asking.query.options) for asking in work.asking()),
        "parameters": sum(weight.numel() for weight in weights.parameters()),
        "batch_size_search": search,
        "notes": notes,
        "systems": [
            {
                "key": system.key,
                "name": system.name,
                **summary(rates[system.key]),
                "largest_difference": reference.differences[system.key],
                "ceiling": limits.get(system.key),
            }
            for system in systems
        ],
    }


def generation(model: BenchModel, extent: Extent) -> dict[str, Any]:
    """Experiment 1 on a server with one model."""
    requests = answering.questions(model.tokenizer(), extent.answers)
    tokens = answering.Tokens()
    with served.serving(model, model.load(), STATE) as engine:
        systems = answering.systems(engine, model.key, requests, tokens)
        rates = measure(systems, extent.repetitions)
        version = engine.describe()["version"]
    return {
        "kind": "generation",
        **_facts(model, extent, vllm=version),
        "requests": len(requests),
        "notes": [
            f"Lengths are drawn from {answering.SHORTEST} to {answering.LONGEST} tokens. vLLM's own"
            " benchmark streams every token over HTTP; the client that sends all requests at once"
            " does not, so that it is the harder one to keep up with."
        ],
        "systems": [
            {
                "key": system.key,
                "name": system.name,
                **summary(rates[system.key]),
                "tokens": tokens.counts[system.key],
            }
            for system in systems
        ],
    }


def _facts(model: BenchModel, extent: Extent, vllm: str | None) -> dict[str, Any]:
    return {
        "model": {
            "key": model.key,
            "about": model.about,
            "dtype": model.dtype,
            "device": model.device,
        },
        "order": list(MODELS).index(model.key),
        "threads": torch.get_num_threads(),
        "repetitions": extent.repetitions,
        "created": environment.now(),
        "commit": environment.git_state(ROOT),
        "hardware": {**environment.hardware(), "processor": _processor()},
        "versions": {
            **{
                name: number for name, number in environment.versions().items() if name in _PACKAGES
            },
            "lm_eval": _version("lm_eval"),
            "vllm": vllm,
        },
    }


_PACKAGES = ("python", "torch", "transformers", "tokenizers")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, where the machine reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _write(result: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    threads = f"-{result['threads']}-threads" if result["threads"] > 1 else ""
    path = folder / f"{result['kind']}-{result['model']['key']}{threads}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    logger.info("wrote %s", path)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description="How fast Grace is, beside what it is compared with."
    )
    parser.add_argument("--quick", action="store_true", help="only see that everything works")
    parser.add_argument("--threads", type=int, default=1, help="for computing (default: 1)")
    parser.add_argument(
        "--models",
        "--model",
        nargs="+",
        choices=MODELS,
        help="default: all that this machine can run",
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--repetitions", type=int, help="of every system (default: 5)")
    parser.add_argument("--trials", type=int, help="with distinct prompts (default: by model)")
    parser.add_argument("--answers", type=int, help="to generate (default: 200)")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--table", action="store_true", help="only print what is measured already")
    return parser.parse_args(words)


def _extent(arguments: argparse.Namespace) -> Extent:
    extent = QUICK if arguments.quick else Extent()
    wanted = {key: getattr(arguments, key) for key in ("repetitions", "trials", "answers")}
    return replace(extent, **{key: value for key, value in wanted.items() if value})


def run(arguments: argparse.Namespace) -> None:
    """Measure and write. Raises `GraceError`."""
    extent = _extent(arguments)
    models = [MODELS[key] for key in arguments.models or measurable()]
    scored = [system for system in arguments.systems if system in SCORING]
    generating = [
        model.key
        for model in models
        if GENERATION in arguments.systems and model.key in extent.generating
    ]
    if not scored and not generating:
        raise GraceError(
            f"bench: nothing to measure. Answers are generated by {', '.join(extent.generating)}"
            " alone; name it in --models."
        )
    if "lm-eval" in arguments.systems:
        harness.require()
    torch.set_num_threads(arguments.threads)
    served.set_threads(arguments.threads)
    for model in models:
        if scored:
            logger.info("experiment 2 with %s", model.key)
            _write(scoring(model, scored, extent), arguments.results)
        if model.key in generating:
            if unserved := served.lacking(model):
                logger.warning("experiment 1 is not measured: %s", unserved)
            else:
                logger.info("experiment 1 with %s", model.key)
                _write(generation(model, extent), arguments.results)
        gc.collect()


def log_to_terminal() -> None:
    """Tell of every run as it ends, and of nothing else."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for chatty in ("httpx", "grace", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write the results, print the tables."""
    arguments = _arguments(words)
    try:
        if not arguments.table:
            run(arguments)
        print(table.render(table.read(arguments.results)))
    except GraceError as error:
        sys.exit(f"\n{error}")
