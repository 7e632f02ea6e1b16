"""Evaluations of the run's checkpoints as lm-evaluation-harness's task `ifeval` takes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grace.errors import ConfigError
from grace.evaluation.ifeval import documents, scores
from grace.posttraining.declared_checks import DeclaredCheck
from grace.results.records import read_json, replacing

FOLDER = "ifeval"


def export(evaluations: list[Path], checks: Mapping[str, Mapping[str, Any]]) -> str:
    """Write <recipe>/ifeval/<checkpoint>.jsonl for each evaluation; a line for each of them.

    `checks` are those of each recipe's types. Raises `ConfigError` where there is no evaluation.
    """
    if not evaluations:
        raise ConfigError(
            "config: `models` names no checkpoint of a recipe, so there is nothing to export. Add"
            " the run's, such as `--config models=demo.dpo-1`."
        )
    lines = []
    for path in evaluations:
        folder = path.parents[1]
        declared = {
            name: None if one is None else DeclaredCheck.model_validate(one)
            for name, one in checks[folder.name].items()
        }
        items = read_json(path)["items"]
        rows = list(documents(items, declared))
        written = folder / FOLDER / f"{path.stem}.jsonl"
        with replacing(written) as file:
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        found = scores(rows)
        said = found if isinstance(found, str) else ", ".join(
            f"{name} {share:.1%}" for name, share in found.items()
        )  # fmt: skip
        lines.append(f"wrote {written}, {len(rows)} of {len(items)} items; by IFEval: {said}")
    return "\n".join(lines)


if __name__ == "__main__":
    from grace.runs.scripting import logged, show

    with logged(snakemake.log[0]):
        paths = [Path(path) for path in snakemake.input.evaluations]
        show(export(paths, dict(snakemake.params.checks)), snakemake.log[0])
