"""Evaluation logs as Inspect reads them (https://inspect.aisi.org.uk/eval-logs.html): `.eval`.

Such a file is a ZIP of JSON: `header.json` is the log without its samples, `samples/` holds each of
these, `summaries.json` what lists show of them. The same results give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from grace.digests import digest
from grace.export.facts import ExportFacts
from grace.export.samples import METRICS, Sample, SampleScore
from grace.export.totals import Totals
from grace.runs.leftovers import replaced

#: The version of Inspect's format that this is.
VERSION = 2
#: The earliest date that a ZIP can hold.
_DATE = (1980, 1, 1, 0, 0, 0)
_LONGEST = 1000
_STOP_REASONS = {"stop": "stop", "length": "max_tokens", "content_filter": "content_filter"}
_ROLES = ("system", "user", "assistant")


def file_name(facts: ExportFacts) -> str:
    """A log's name as Inspect gives it: time, task and id."""
    created = re.sub(r"[^0-9A-Za-z]+", "-", facts.started[:19])
    model = re.sub(r"[^0-9A-Za-z]+", "-", facts.model_key)
    task = f"{facts.study}-{facts.experiment}-{model}-{facts.replication}"
    return f"{created}_{re.sub('_', '-', task)}_{_ids(facts)['task_id']}.eval"


def write_log(path: Path, facts: ExportFacts, samples: Iterable[Sample]) -> Totals:
    """Write one log; what its samples amount to. One sample at a time is held in memory."""
    totals = Totals()
    summaries = []
    ids = _ids(facts)
    with replaced(path) as partial, ZipFile(partial, "w", ZIP_DEFLATED) as archive:
        _add(archive, "_journal/start.json", {
            "version": VERSION, "eval": _spec(facts, ids, None), "plan": _plan(facts)
        })  # fmt: skip
        for sample in samples:
            totals.add(sample)
            found = eval_sample(sample, facts, ids["run_id"])
            _add(archive, f"samples/{sample.id}_epoch_1.json", found)
            summaries.append(_summary(found))
        _add(archive, "summaries.json", summaries)
        _add(archive, "header.json", _header(facts, ids, totals))
    return totals


def eval_sample(sample: Sample, facts: ExportFacts, run_id: str) -> dict[str, Any]:
    """One sample as Inspect's `EvalSample`."""
    prompt = [_message(one, f"{sample.id}-{place}") for place, one in enumerate(sample.messages)]
    output: dict[str, Any] = {"model": model_name(facts), "choices": []}
    messages = list(prompt)
    if sample.response is not None:
        content: Any = sample.response
        if sample.reasoning:
            content = [
                {"type": "reasoning", "reasoning": sample.reasoning},
                {"type": "text", "text": sample.response},
            ]
        answer = {
            "id": f"{sample.id}-answer", "role": "assistant", "content": content,
            "source": "generate", "model": model_name(facts),
        }  # fmt: skip
        messages.append(answer)
        reason = _STOP_REASONS.get(sample.stop_reason or "", "unknown")
        output["choices"] = [{"message": answer, "stop_reason": reason}]
        output["completion"] = sample.response
    usage = _usage(*sample.tokens) if sample.tokens else None
    if usage:
        output["usage"] = usage
    if sample.seconds is not None:
        output["time"] = sample.seconds
    found: dict[str, Any] = {
        "id": sample.id,
        "epoch": 1,
        "input": prompt or "",
        "choices": list(sample.choices) or None,
        "target": list(sample.target) or "",
        "messages": messages,
        "output": output,
        "scores": {name: _score(one) for name, one in sample.scores.items()},
        "metadata": dict(sample.metadata),
        "model_usage": {model_name(facts): usage} if usage else {},
        "uuid": digest([run_id, sample.id])[:22],
        "turn_count": sample.turns,
    }
    if sample.completed:
        found["completed_at"] = _utc(sample.completed)
    if sample.seconds is not None:
        found["total_time"] = found["working_time"] = sample.seconds
    if sample.error is not None:
        found["error"] = {"message": sample.error, "traceback": "", "traceback_ansi": ""}
    return found


def model_name(facts: ExportFacts) -> str:
    """A model as Inspect names it: who serves it, and its name there."""
    return f"{facts.engine}/{facts.model}"


def _header(facts: ExportFacts, ids: Mapping[str, str], totals: Totals) -> dict[str, Any]:
    tokens = totals.tokens
    return {
        "version": VERSION,
        "status": "success",
        "eval": _spec(facts, ids, totals),
        "plan": _plan(facts),
        "results": {
            "total_samples": totals.samples,
            "completed_samples": totals.samples - totals.failed,
            "scores": [
                {
                    "name": name,
                    "scorer": name,
                    "scored_samples": score.count,
                    "unscored_samples": totals.samples - score.count,
                    "metrics": {"mean": {"name": "mean", "value": score.mean}},
                    "metadata": {"what": METRICS[name].what, "unit": METRICS[name].unit},
                }
                for name, score in totals.scores.items()
            ],
        },
        "stats": {
            "started_at": _utc(facts.started),
            "completed_at": _utc(facts.completed),
            "model_usage": {model_name(facts): _usage(*tokens)} if tokens else {},
        },
    }


def _spec(facts: ExportFacts, ids: Mapping[str, str], totals: Totals | None) -> dict[str, Any]:
    """What was run, as Inspect's `EvalSpec`."""
    generation = {
        key: value
        for key, value in facts.generation.items()
        if key in ("temperature", "top_p", "top_k", "max_tokens") and value is not None
    }
    revision = {"type": "git", "origin": "", "commit": facts.commit, "dirty": facts.dirty}
    return {
        **ids,
        "created": _utc(facts.started),
        "task": f"grace/{facts.name}",
        "task_display_name": facts.name,
        "task_description": facts.described,
        "task_version": facts.versions["grace"],
        "task_args": {"replication": facts.replication},
        "tags": [facts.study, facts.experiment, facts.model_key],
        "dataset": {
            "name": facts.study,
            **({"samples": totals.samples} if totals else {}),
            "shuffled": True,
        },
        "model": model_name(facts),
        "model_generate_config": generation,
        "model_args": {key: value for key, value in facts.model_details.items() if value},
        "config": {"epochs": 1},
        **({"revision": revision} if facts.commit else {}),
        "packages": {key: value for key, value in facts.versions.items() if value},
        "metadata": {
            "model_key": facts.model_key,
            "replication": facts.replication,
            "replication_id": facts.replication_id,
            "seeds": dict(facts.seeds),
            "generation": dict(facts.generation),
            "deployment": dict(facts.deployment),
            "prompts_sha256": dict(facts.prompts),
            "provenance": dict(facts.provenance),
        },
    }


def _plan(facts: ExportFacts) -> dict[str, Any]:
    what = {"exp1": "generate", "exp2": "score_options"}[facts.experiment]
    return {"name": "plan", "steps": [{"solver": f"grace/{what}", "params": {}}]}


def _ids(facts: ExportFacts) -> dict[str, str]:
    """Ids that follow from what was run, so that the same run has the same."""
    run = [facts.replication_id, facts.provenance["sha256"]]
    return {
        "eval_id": digest(["eval", facts.name, *run])[:22],
        "run_id": digest(["run", facts.replication_id])[:22],
        "task_id": digest(["task", facts.name, *run])[:22],
    }


def _message(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    role = message["role"] if message["role"] in _ROLES else "user"
    text = message["content"]
    return {"id": name, "role": role, "content": text if isinstance(text, str) else _json(text)}


def _score(measured: SampleScore) -> dict[str, Any]:
    found: dict[str, Any] = {"value": measured.value, "metadata": {"correct": measured.correct}}
    if measured.answer:
        found["answer"] = measured.answer
    if measured.why:
        found["explanation"] = measured.why
    return found


def _usage(prompt: int, answer: int) -> dict[str, int]:
    return {"input_tokens": prompt, "output_tokens": answer, "total_tokens": prompt + answer}


def _summary(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What lists show of a sample, as Inspect's `EvalSampleSummary`; long texts shortened."""
    plain = (str, int, float, bool)
    kept = ("id", "epoch", "choices", "target", "scores", "model_usage", "uuid", "completed_at",
            "total_time", "working_time")  # fmt: skip
    prompt = sample["input"][-1]["content"] if sample["input"] else ""
    return {
        **{key: sample[key] for key in kept if key in sample},
        "input": prompt[:_LONGEST],
        "metadata": {
            key: value[:_LONGEST] if isinstance(value, str) else value
            for key, value in sample["metadata"].items()
            if isinstance(value, plain)
        },
        "error": sample["error"]["message"] if "error" in sample else None,
        "completed": True,
        "message_count": len(sample["messages"]),
        "turn_count": sample["turn_count"],
    }


def _utc(time: str) -> str:
    """A time in UTC with its zone, which ours may lack."""
    return time if re.search(r"(Z|[+-]\d\d:\d\d)$", time) else f"{time}+00:00"


def _add(archive: ZipFile, name: str, value: Any) -> None:
    entry = ZipInfo(name, _DATE)
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
