"""Records of Every Eval Ever (https://github.com/evaleval/every_eval_ever), schema 0.3.0.

A JSON file holds what was run and the means of its scores, and a file of JSON lines beside it each
sample's score. Both lie where that project's datastore has them,
`data/<collection>/<developer>/<model>/<uuid>.json` and `<uuid>_samples.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from grace.digests import digest
from grace.export.facts import ExportFacts
from grace.export.samples import METRICS, Sample
from grace.export.totals import Totals
from grace.results.records import replacing

SCHEMA_VERSION = "0.3.0"
#: The developer of a model that has none, such as one in a folder of the project.
LOCAL = "local"
_NOT_PORTABLE = re.compile(r'[<>:"\\|?*\x00-\x1f]+')
_GENERATION = ("temperature", "top_p", "top_k", "max_tokens")


def write_records(folder: Path, facts: ExportFacts, samples: Iterable[Sample]) -> Path:
    """Write both files below `folder`; the path of the first. Samples are read once."""
    developer, model = model_place(facts)
    place = f"data/grace-{facts.study}/{developer}/{model}"
    name = _uuid(facts)
    (folder / place).mkdir(parents=True, exist_ok=True)
    totals = Totals()
    lines = folder / place / f"{name}_samples.jsonl"
    with replacing(lines) as file:
        for sample in samples:
            totals.add(sample)
            for row in sample_rows(sample, facts):
                file.write(f"{_json(row)}\n")
    rows = sum(score.count for score in totals.scores.values())
    record = {
        **aggregate(facts, totals),
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": f"{place}/{lines.name}",
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(lines.read_bytes()).hexdigest(),
            "total_rows": rows,
        },
    }
    if not rows:  # a file of lines has one at least
        lines.unlink()
        del record["detailed_evaluation_results"]
    path = folder / place / f"{name}.json"
    with replacing(path) as file:
        file.write(f"{json.dumps(record, ensure_ascii=False, allow_nan=False, indent=2)}\n")
    return path


def model_id(facts: ExportFacts) -> str:
    """The model as `<developer>/<name>`, of which the datastore makes folders."""
    parts = [part for part in (facts.hub_id or "").split("/") if part]
    if len(parts) < 2:
        parts = [LOCAL, facts.model_key]
    return "/".join(_NOT_PORTABLE.sub("-", part).strip(". ") or "-" for part in parts)


def model_place(facts: ExportFacts) -> tuple[str, str]:
    """The folders of developer and model."""
    developer, *rest = model_id(facts).split("/")
    return developer, "_".join(rest)


def aggregate(facts: ExportFacts, totals: Totals) -> dict[str, Any]:
    """What was run and the mean of every score, without the reference to the samples."""
    generation = {
        "generation_args": {
            key: facts.generation[key]
            for key in _GENERATION
            if facts.generation.get(key) is not None
        },
        "additional_details": _texts({**facts.seeds, "prompts_sha256": facts.prompts}),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation_id(facts),
        "evaluation_timestamp": facts.started,
        "retrieved_timestamp": _epoch(facts.completed),
        "source_metadata": {
            "source_name": "Grace",
            "source_type": "evaluation_run",
            # Grace does not know who runs it, nor how they stand to the model's developer.
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": _texts(
                {
                    "replication": facts.replication,
                    "replication_id": facts.replication_id,
                    "model_key": facts.model_key,
                    "commit": facts.commit,
                    "dirty": facts.dirty,
                    **{f"provenance_{key}": value for key, value in facts.provenance.items()},
                }
            ),
        },
        "eval_library": {
            "name": "grace",
            "version": facts.versions["grace"],
            "additional_details": _texts(facts.versions),
        },
        "model_info": {
            "name": facts.model,
            "id": model_id(facts),
            "developer": model_place(facts)[0],
            "inference_engine": {"name": facts.engine, "version": facts.engine_version},
            "additional_details": {
                "deployment_type": "self_deployed" if facts.known_weights else "unknown",
                "model_availability": "open_weights" if facts.hub_id else "unknown",
                **_texts({**facts.model_details, **facts.deployment}),
            },
        },
        "evaluation_results": [
            {
                "evaluation_result_id": _result_id(facts, name),
                "evaluation_name": facts.name,
                "source_data": {
                    "dataset_name": facts.study,
                    "source_type": "other",
                    "additional_details": {"title": facts.title},
                },
                "evaluation_timestamp": facts.started,
                "metric_config": _metric(name),
                "score_details": {
                    "score": score.mean,
                    "details": _texts({"without_a_score": totals.samples - score.count}),
                    "uncertainty": {"num_samples": score.count},
                },
                "generation_config": generation,
            }
            for name, score in totals.scores.items()
        ],
    }


def sample_rows(sample: Sample, facts: ExportFacts) -> Iterator[dict[str, Any]]:
    """A sample's rows, one for each of its scores."""
    prompt = [_text(one) for one in sample.messages]
    for name, measured in sample.scores.items():
        row: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": evaluation_id(facts),
            "model_id": model_id(facts),
            "evaluation_name": facts.name,
            "evaluation_result_id": _result_id(facts, name),
            "sample_id": sample.id,
            "sample_hash": _hash("".join([*prompt, *sample.target])),
            "interaction_type": "multi_turn" if sample.turns > 1 else "single_turn",
            "input": {
                "raw": "\n\n".join(prompt),
                "reference": list(sample.target),
                "choices": list(sample.choices) or None,
            },
            "answer_attribution": [],
            "evaluation": {"score": measured.value, "is_correct": measured.correct},
            "error": sample.error,
            "metadata": _texts(
                {
                    **sample.metadata,
                    "is_correct_means": METRICS[name].correct_means,
                    "explanation": measured.why,
                }
            ),
        }
        if sample.turns > 1:
            row["messages"] = list(_turns(sample))
            row["evaluation"]["num_turns"] = sample.turns
        else:
            said = [sample.response] if sample.response is not None else []
            thought = [sample.reasoning] if sample.reasoning else None
            row["output"] = {"raw": said, "reasoning_trace": thought}
        if sample.response is not None:
            row["answer_attribution"] = [
                {
                    "turn_idx": len(sample.messages) if sample.turns > 1 else 0,
                    "source": "messages[turn_idx].content" if sample.turns > 1 else "output.raw",
                    "extracted_value": measured.answer,
                    "extraction_method": _METHODS[facts.experiment],
                    "is_terminal": True,
                }
            ]
        if sample.tokens:
            prompt_tokens, answer_tokens = sample.tokens
            row["token_usage"] = {
                "input_tokens": prompt_tokens,
                "output_tokens": answer_tokens,
                "total_tokens": prompt_tokens + answer_tokens,
            }
        if sample.seconds is not None:
            row["performance"] = {"latency_ms": sample.seconds * 1000}
        yield row


_METHODS = {
    "exp1": "the study's patterns (study.yaml)",
    "exp2": "the option with the largest probability; nothing was generated",
}


def evaluation_id(facts: ExportFacts) -> str:
    """Names the run of an experiment: what, which model, when."""
    what = f"grace-{facts.name}-{facts.model_key}-replication-{facts.replication}"
    return f"{what}/{model_id(facts)}/{_epoch(facts.completed)}"


def _metric(name: str) -> dict[str, Any]:
    metric = METRICS[name]
    return {
        "evaluation_description": metric.what,
        "metric_id": f"grace.{name}",
        "metric_name": name,
        "metric_kind": metric.kind,
        "metric_unit": metric.unit,
        "lower_is_better": metric.lower_is_better,
        "score_type": "continuous",
        "min_score": metric.lowest,
        "max_score": metric.highest,
        "additional_details": {"is_correct_means": metric.correct_means},
    }


def _turns(sample: Sample) -> Iterator[dict[str, Any]]:
    for place, message in enumerate(sample.messages):
        yield {"turn_idx": place, "role": message["role"], "content": _text(message)}
    if sample.response is not None:
        yield {
            "turn_idx": len(sample.messages), "role": "assistant", "content": sample.response,
            "reasoning_trace": sample.reasoning,
        }  # fmt: skip


def _result_id(facts: ExportFacts, name: str) -> str:
    return f"{evaluation_id(facts)}#{name}"


def _uuid(facts: ExportFacts) -> str:
    """A UUID of version 4 that follows from what was run, so that the same run has the same."""
    number = digest([evaluation_id(facts), facts.replication_id, facts.provenance["sha256"]])
    return str(UUID(hex=number[:32], version=4))


def _epoch(time: str) -> str:
    return str(int(datetime.fromisoformat(time).timestamp()))


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else _json(content)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as the schema's further details have them, which are texts; empty ones left out."""
    return {
        key: value if isinstance(value, str) else _json(value)
        for key, value in values.items()
        if value not in (None, "", {}, [])
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _json(value: Any) -> str:
    """In ASCII: the validator takes other line separators, such as U+2028, for ends of lines."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
