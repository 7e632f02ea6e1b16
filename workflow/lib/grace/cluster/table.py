"""What `snakemake policy` shows: pods, GPUs, hours, and the verdict of every rule. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from grace.cluster import demand, policy
from grace.cluster.placement import needs_gpu, weigh
from grace.cluster.pods import PodRequest
from grace.cluster.policy import Verdict
from grace.project import Project

_PODS = (
    "group", "model", "tag", "pods", "at once", "GPUs", "cores", "GiB", "of it shm", "hours",
    "GPU-hours",
)  # fmt: skip


def verdicts(project: Project) -> list[Verdict]:
    """All verdicts on a configured run, its fall-backs included. Raises `ConfigError`."""
    cluster, planned = project.cluster, demand.pods(project)
    found = policy.check(planned, cluster)
    for pod in demand.fallback_pods(project):
        found += policy.check_pod(pod, cluster, len(planned))
    return found


def refuse(project: Project, jobs: Iterable[tuple[str, str | None, str | None]]) -> None:
    """Raise `GraceError` where the pods of these jobs would break a rule, or a model fits no tag.

    Jobs by rule, model and replication; only what they need is looked at.
    """
    cluster = project.cluster
    planned = demand.needed(demand.pods(project), jobs)
    found = policy.check(planned, cluster)
    models = {pod.model for pod in planned if pod.rule == "inference"}
    for pod in demand.fallback_pods(project):
        if pod.model in models:
            found += policy.check_pod(pod, cluster, len(planned))
    policy.refuse(found, project.config.cluster)


def text(project: Project) -> str:
    """The tables. Raises `ConfigError` where a model fits no tag."""
    planned = demand.pods(project)
    rows = [*_rows(planned), *_rows(demand.fallback_pods(project), fallback=True)]
    parts = [
        f"Cluster '{project.config.cluster}', namespace {project.cluster.namespace}. Limits equal"
        " requests.",
        columns([_PODS, *rows], left=3),
        f"At most {policy.gpu_hours(planned):g} GPU-hours, if every pod takes its full time;"
        f" {_peak(project)}.",
    ]
    refused = [
        (model, one.tag, one.why)
        for model, entry in project.entries.items()
        if needs_gpu(entry)
        for one in weigh(model, entry, project.cluster, project.config.gpus).refused
    ]
    if refused:
        parts.append("Tags that are not used:\n" + columns(refused, left=3))
    parts.append("Rules:\n" + columns(_summary(verdicts(project)), left=5))
    return "\n\n".join(parts)


def columns(lines: Sequence[Sequence[str]], left: int) -> str:
    """Lines of cells below each other; the first `left` columns start at the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _rows(pods: Sequence[PodRequest], *, fallback: bool = False) -> list[tuple[str, ...]]:
    """A line for each kind of pod."""
    kinds: dict[tuple[str, str, str], list[PodRequest]] = {}
    for pod in pods:
        tag = pod.placement.tag if pod.placement else "-"
        kinds.setdefault((pod.rule, pod.model or "-", tag), []).append(pod)
    return [
        (
            "or" if fallback else group,
            model,
            tag,
            "" if fallback else str(len(alike)),
            str(alike[0].at_once) if group == "inference" else "",
            str(alike[0].gpus or "-"),
            str(alike[0].cpu),
            f"{alike[0].memory_mib / 1024:.1f}",
            f"{alike[0].shm_mib / 1024:.1f}" if alike[0].shm_mib else "-",
            f"{(alike[0].runtime_min or 0) / 60:.1f}",
            f"{policy.gpu_hours(alike):.1f}" if alike[0].gpus and not fallback else "-",
        )
        for (group, model, tag), alike in kinds.items()
    ]


def _peak(project: Project) -> str:
    peak = project.cluster.peak_gpus
    return "no limit on GPUs at once" if peak is None else f"at most {peak} GPUs at once"


def _summary(found: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """A line for each rule, kept or broken, and each value: the first pod of it."""
    lines: list[tuple[str, ...]] = [("", "rule", "pods", "value", "allowed")]
    kinds: dict[tuple[str, str, bool], list[Verdict]] = {}
    for verdict in found:
        kinds.setdefault((verdict.rule, verdict.value, verdict.ok), []).append(verdict)
    for (rule, value, ok), alike in sorted(kinds.items(), key=lambda kind: kind[0][0]):
        others = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        mark = "ok" if ok else "BROKEN"
        lines.append((mark, rule, f"{alike[0].pod}{others}", value, alike[0].allowed))
    return lines
