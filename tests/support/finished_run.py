"""A small finished run whose files, records and journal tests may tamper with; nothing is computed.

Two trials of both experiments, with what the journal holds of them, then a table, two analyses that
one job made, and a report: the shape of a run of the workflow, by a step that is one line of code.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from grace.digests import digest, file_digest
from grace.engines.answer_keys import AnswerKeys
from grace.engines.base import Decoding, Generation, GenerationRequest, Score, ScoreRequest
from grace.engines.journaled import JournaledEngine
from grace.experiments.measurement import request_key
from grace.journal import Journal
from grace.provenance import sidecars
from grace.results.records import write_json, write_records
from grace.scoring.joining import QueryPlan
from grace.scoring.records import measured_query
from grace.source_code import source_digest

MODEL = "results/tiny/replication-0"
ANSWERS = f"{MODEL}/study1_exp1.json"
SCORES = f"{MODEL}/study1_exp2.json"
TABLE = f"{MODEL}/study1_raw_responses.csv"
CELLS = "results/analysis/study1_cells.csv"
FIGURE = "results/analysis/figures/study1_bets.png"
REPORT = "results/report.html"
FILES = (
    ANSWERS, f"{MODEL}/provenance/study1_exp1.json", SCORES,
    f"{MODEL}/provenance/study1_exp2.json", TABLE, CELLS, FIGURE, REPORT,
)  # fmt: skip
STIMULI = "resources/stimuli/study1.csv"
PROMPT = "config/prompts/seed/study1.j2"
STEP = "scripts/step.py"
#: Of a model that lies in the project, and in no archive of it.
WEIGHTS = "models/tiny/weights.safetensors"
OPTIONS = ("yes", "no")


def facts_of_a_job(**facts: Any) -> dict[str, Any]:
    """What a record must hold beside its file's own."""
    return {
        "rule": "step",
        "wildcards": {"model": "tiny"},
        "started": "2026-11-20T10:00:00.000+00:00",
        "inputs": {},
        "input_records": {},
        "code": {},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "settings": {"output_config": {"limit": 2}},
        "hardware": {"node": "n", "pod": None, "platform": "Linux", "cpus": 2, "memory_gib": 4.0},
        "versions": {"python": "3.11.7"},
        "completed": "2026-11-20T10:00:01.000+00:00",
        **facts,
    }


class _Engine:
    """Answers at once, with numbers of its own."""

    def describe(self) -> dict[str, Any]:
        return {"engine": "test", "version": "1"}

    def generate(self, requests: Any) -> Any:
        for place, request in enumerate(requests):
            yield Generation(
                request.key, f"{60 + place}%", "stop", {"completion_tokens": 2}, None,
                "2026-11-20T10:00:00.500+00:00", 12.5,
            )  # fmt: skip

    def score(self, requests: Any, known: Any = frozenset()) -> Any:
        for place, request in enumerate(requests):
            yield Score(request.key, ((-0.5 - place,), (-1.25,)), (-0.125, -0.25))


def build(root: Path) -> None:
    """Make the run in a folder; it is also the project."""
    for name, text in (
        (STIMULI, "story\nIt rained.\nIt snowed.\n"),
        (PROMPT, "{{ story }} How sure are you?"),
        (WEIGHTS, "numbers"),
        (STEP, "def f(x):\n    return x + 1\n"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    stories = [[{"role": "user", "content": f"{s} How sure are you?"}] for s in ("Rain.", "Snow.")]
    with Journal(root / ".grace" / "journal", commit_interval_s=0) as journal:
        _experiment_1(root, stories, journal)
        _experiment_2(root, stories, journal)
    _write(root, TABLE, "trial,answer\n0,60%\n1,61%\n")
    record(root, [TABLE], ANSWERS, SCORES)
    _write(root, CELLS, "cell,mean\n1,60.5\n")
    _write(root, FIGURE, "a picture\n")
    record(root, [CELLS, FIGURE], TABLE)
    _write(root, REPORT, "<p>60.5</p>\n")
    record(root, [REPORT], CELLS, FIGURE)


def record(root: Path, outputs: list[str], *inputs: str, **facts: Any) -> None:
    """Write the records of one job. `root` must be the working directory."""
    sidecars.write_sidecars(
        outputs,
        "results",
        facts_of_a_job(
            inputs={name: file_digest(root / name) for name in inputs},
            input_records=sidecars.input_records(inputs),
            code={STEP: source_digest(root / STEP)},
            **facts,
        ),
    )


def _write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def _engine(journal: Journal, experiment: str) -> JournaledEngine:
    engine: Any = _Engine()
    return JournaledEngine(
        lambda: nullcontext(engine), journal,
        keys=AnswerKeys("transformers", experiment, {"name": "tiny"}),
        session={"experiment": experiment}, label=experiment,
    )  # fmt: skip


def _experiment_1(root: Path, stories: list[Any], journal: Journal) -> None:
    engine = _engine(journal, "exp1")
    requests = [
        GenerationRequest(str(place), tuple(story), (1, 2, place), Decoding(0, 1, 5), place)
        for place, story in enumerate(stories)
    ]
    records = [
        {
            "variant": "seed", "trial_index": place, "messages": stories[place],
            "asked_as": place, "response": answer.text, "reasoning": answer.reasoning,
            "finish_reason": answer.finish_reason, "usage": answer.usage,
            "response_timestamp": answer.completed_at,
            "processing_time_ms": answer.processing_time_ms, "status": "ok",
        }
        for place, answer in enumerate(engine.generate(requests))
    ]  # fmt: skip
    _answers(root, ANSWERS, records, engine)


def _experiment_2(root: Path, stories: list[Any], journal: Journal) -> None:
    engine = _engine(journal, "exp2")
    plans = [QueryPlan((1, 2, place), OPTIONS, ((4,), (5,))) for place in range(len(stories))]
    requests = [
        ScoreRequest(
            request_key(story, OPTIONS), plan.prompt_token_ids, plan.option_token_ids, (0,), None,
            tuple(story),
        )
        for story, plan in zip(stories, plans, strict=True)
    ]  # fmt: skip
    records = []
    for place, score in enumerate(engine.score(requests)):
        assert score.token_logprobs is not None
        assert score.terminator_logprobs is not None
        query = measured_query(
            "knows", OPTIONS, plans[place], score.token_logprobs, score.terminator_logprobs
        )
        records.append(
            {
                "variant": "seed", "trial_index": place, "status": "ok",
                "queries": [{**query, "messages": stories[place]}],
            }
        )  # fmt: skip
    _answers(root, SCORES, records, engine)


def _answers(root: Path, name: str, records: list[Any], engine: JournaledEngine) -> None:
    path = root / name
    facts = path.parent / "provenance" / path.name
    write_records(path, records)
    write_json(facts, {"answers": engine.sessions(), "answer_keys": engine.answer_keys()})
    record(
        root, [name, facts.relative_to(root).as_posix()], STIMULI,
        model={"name": "models/tiny", "weights": digest("tiny")}, tokenizer=None,
        engine={"engine": "test"}, seeds={"replication": 1, "experiment": 1},
        files={name: file_digest(root / name) for name in (PROMPT, WEIGHTS)},
    )  # fmt: skip


def forged(output: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit an output's record, and recompute its own digest as a forger would."""
    path = sidecars.sidecar(output)
    content = json.loads(path.read_text())
    edit(content)
    rewritten(path, content)


def rewritten(path: Path, content: dict[str, Any]) -> None:
    """Write a record with a digest that fits it."""
    from grace.provenance.record import digest_of

    text = json.dumps(content, indent=2) + "\n"
    if "digest" in content:
        found = digest_of(text.encode())
        text = text.replace(content["digest"], found, 1)
    path.write_text(text)


def archived(root: Path) -> Path:
    """An archive of the run, as `snakemake archive` writes it. `root` is the working directory."""
    from grace.provenance.archive import archive

    (root / "Snakefile").write_text("open('it-ran', 'w')\n")
    (root / "conftest.py").write_text("")
    (root / "README.md").write_text("A run.\n")
    (root / ".gitignore").write_text("/results/\n/.grace/\n/models/\n/*.zip\n")
    who = ("-c", "user.name=A. Person", "-c", "user.email=person@example.org")
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "As it ran")):
        subprocess.run(["git", *who, *arguments], cwd=root, check=True)
    crate = root / "crate.zip"
    archive(root, REPORT, {"results": "results", "models": ["tiny"]}, crate)
    return crate


def lowered(record: dict[str, Any]) -> None:
    """Turn a record into one of the older format, which guards nothing."""
    record["format"] = 1
    record["made_with"] = list(record["made_with"])
    del record["digest"], record["input_records"]
