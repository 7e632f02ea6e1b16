"""Plan a replication: check that the model can run here, and record what will be asked."""

from pathlib import Path
from typing import Any

from grace.engines.opening import runtime_of
from grace.experiments import preflight
from grace.provenance import environment
from grace.results.records import write_json
from grace.settings.config import ModelEntry
from grace.settings.output_configs import PlanConfig


def plan(path: Path, config: PlanConfig, settings: dict[str, Any]) -> None:
    """Write plan.json. Raises `EngineError` where the model cannot be asked, or not here."""
    entry = ModelEntry.model_validate(settings["entry"])
    preflight.check_all(config.model, entry, settings["wanted"], runtime_of(settings))
    root = Path(settings["root"])
    made = {"created": environment.now(), **environment.git_state(root)}
    write_json(path, {**config.model_dump(), **made})


if __name__ == "__main__":
    from grace.models.tokenizers_alone import use_tokenizers_alone
    from grace.runs.scripting import job

    use_tokenizers_alone()
    with job(snakemake, __file__):
        plan(
            Path(snakemake.output.plan),
            PlanConfig.model_validate(snakemake.params.output_config),
            dict(snakemake.params.runtime),
        )
