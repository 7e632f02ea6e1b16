"""One Indexed Job a model, for clusters on which Snakemake may not submit. Pure.

Each pod runs Snakemake itself on the shared project, for the replication that its index stands for:
the same rules as one group of the run, one model load. The tables and the report are made after
that by an ordinary run, which finds the replications' results there.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from grace.cluster.plan import pod_plan
from grace.cluster.plan.pods import dns_name, job_manifest
from grace.errors import ConfigError
from grace.settings.loading import load_config
from grace.settings.project import Project
from grace.settings.yaml_reader import read_sheet

INDEX = "JOB_COMPLETION_INDEX"
"""What Kubernetes tells the pods of an Indexed Job: their number, from 0."""
TRIES = 3
"""Times that a replication is tried; what was answered is in the journal."""


def targets(project: Project, model: str, replication: str) -> list[str]:
    """The files of one replication that its group of jobs makes."""
    folder = f"{project.config.results}/{model}/replication-{replication}"
    records = [
        f"{folder}/{study}_{experiment}.json"
        for study, experiments in project.asked.items()
        for experiment in experiments
    ]
    return [f"{folder}/plan.json", *records, f"{folder}/metadata.json"]


def differing(project: Project) -> dict[str, Any]:
    """The run's settings that are not those of the project's config/config.yaml."""
    own = load_config(read_sheet(project.root / "config" / "config.yaml", "setting")).model_dump()
    return {key: value for key, value in project.config.model_dump().items() if value != own[key]}


def script(project: Project, model: str, cores: int) -> str:
    """What each pod runs: a line of bash."""
    config = {**differing(project), "models": [model]}
    config.pop("replications", None)
    settings = [f"{key}={json.dumps(value)}" for key, value in sorted(config.items())]
    words = ["snakemake", "--nolock", "--cores", str(cores), "--config"]
    indices = " ".join(map(str, project.config.replication_indices))
    files = " ".join(f'"{target}"' for target in targets(project, model, "$replication"))
    return (
        f"replications=({indices}); replication=${{replications[${INDEX}]}};"
        f' exec {shlex.join([*words, *settings])} "replications=[$replication]" -- {files}'
    )


def manifest(project: Project, model: str) -> dict[str, Any]:
    """A model's Job. Raises `ConfigError` where it fits no tag, or no volume is shared."""
    cluster = project.cluster
    if cluster.volume("project") is None:
        raise ConfigError(
            f"config/clusters.yaml: the pods of `snakemake manifests` work on a volume that they"
            f" share, but cluster '{project.config.cluster}' has none with `purpose: project`."
        )
    if Path(project.config.results).is_absolute():
        raise ConfigError(
            f"config: key 'results' is '{project.config.results}', but pods know the project's own"
            " folders alone. Name one below it."
        )
    if project.entries[model].trained is not None:
        raise ConfigError(
            f"model '{model}' is a recipe's checkpoint, which several pods train one after the"
            " other: an Indexed Job cannot. Train it with `--executor kubernetes`, or on a machine"
            " with a GPU."
        )
    placement = next(iter(project.placements[model]), None)
    request = pod_plan.inference_pod(project, model, None, placement)
    command = ["/bin/bash", "-c", script(project, model, request.cores)]
    job = job_manifest(replace(request, command=command), cluster)
    count = len(project.config.replication_indices)
    job["metadata"]["name"] = dns_name(cluster.own(f"grace-{project.config.results}-{model}"))
    spec = job["spec"]
    # Counts for the Job as a whole, which waits for GPUs again and again; each pod has its own.
    del spec["activeDeadlineSeconds"]
    # One index that fails for good does not stop the others.
    del spec["backoffLimit"]
    return {
        **job,
        "spec": {
            "completionMode": "Indexed",
            "completions": count,
            "parallelism": request.at_once,
            "backoffLimitPerIndex": TRIES - 1,
            **spec,
        },
    }


def text(project: Project, model: str) -> str:
    """A model's Job as a YAML file for `kubectl apply -f`."""
    head = (
        f"# {model}: a pod for each replication. Written by `snakemake manifests`; the project on\n"
        "# the volume must be the one that it was written from.\n"
    )
    return head + yaml.safe_dump(manifest(project, model), sort_keys=False, width=100)
