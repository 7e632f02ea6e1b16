"""What the pods of a run are together: how many at a time, on how many GPUs, for how long. Pure.

Of each model there are the pods of its replications and, as `others`, a pod on every further tag
that they may move to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from grace.cluster.plan.pods import PodRequest
from grace.cluster.plan.settings import Cluster


def gpu_hours(pods: Iterable[PodRequest]) -> float:
    """GPU-hours that the pods are expected to take."""
    return sum(pod.gpus * expected_hours(pod) for pod in pods)


def hours(pod: PodRequest) -> float:
    """Hours after which a pod is ended."""
    return (pod.runtime_min or 0) / 60


def expected_hours(pod: PodRequest) -> float:
    """Hours that a pod is expected to take; where nothing is known of it, until it is ended."""
    return hours(pod) if pod.expected_min is None else min(hours(pod), pod.expected_min / 60)


def moved_gpu_hours(pods: Iterable[PodRequest], others: Iterable[PodRequest]) -> float:
    """GPU-hours that are expected if every pod moves to the tag on which it takes most of them."""
    moved = list(others)
    return sum(max(gpu_hours([one]) for one in _placed(pod, moved)) for pod in pods)


def most_gpu_hours(pods: Iterable[PodRequest], others: Iterable[PodRequest] = ()) -> float:
    """GPU-hours if every pod takes its full time, on the tag on which it takes most GPUs."""
    moved = list(others)
    return sum(hours(pod) * max(one.gpus for one in _placed(pod, moved)) for pod in pods)


def _placed(pod: PodRequest, others: Iterable[PodRequest]) -> list[PodRequest]:
    """A pod, and itself on the further tags that it may move to."""
    return [pod, *(one for one in others if _alike(one, pod))]


def _alike(one: PodRequest, other: PodRequest) -> bool:
    return (one.rule, one.model) == (other.rule, other.model)


def _by_model(pods: Iterable[PodRequest]) -> dict[str | None, list[PodRequest]]:
    """Those that load a model, by model."""
    found: dict[str | None, list[PodRequest]] = {}
    for pod in pods:
        if pod.loads_model:
            found.setdefault(pod.loads, []).append(pod)
    return found


def _most(alike: Sequence[PodRequest]) -> int:
    """Pods of a model that run at once, as far as the model goes."""
    different = {(pod.rule, pod.model, pod.replication, pod.training_seed) for pod in alike}
    return min(max(pod.at_once for pod in alike), len(different))


def largest(pods: Iterable[PodRequest]) -> PodRequest | None:
    """The pod with most GPUs, if one has any."""
    with_gpus = [pod for pod in pods if pod.gpus]
    return max(with_gpus, key=lambda pod: pod.gpus, default=None)


def gpus_at_once(pods: Sequence[PodRequest], cluster: Cluster) -> int:
    """Most GPUs in use at a time. `others` count as pods; one beyond `peak_gpus` runs alone."""
    models = [_most(alike) * max(pod.gpus for pod in alike) for alike in _by_model(pods).values()]
    most = max(models, default=0) if cluster.models_in_sequence else sum(models)
    biggest = largest(pods)
    if cluster.peak_gpus is None or biggest is None:
        return most
    return min(most, max(cluster.peak_gpus, biggest.gpus))


def pods_at_once(pods: Sequence[PodRequest], cluster: Cluster) -> int:
    """Most of these pods that run at a time, as `grace.cluster.run.queue` lets them.

    Pods without a model wait for no one, those without GPUs for their own model alone.
    """
    models = _by_model(pods).values()
    free = sum(not pod.loads_model for pod in pods)
    free += sum(_most(alike) for alike in models if not any(pod.gpus for pod in alike))
    with_gpus = sorted(
        (min(pod.gpus for pod in alike), _most(alike))
        for alike in models
        if all(pod.gpus for pod in alike)
    )
    if cluster.models_in_sequence:
        return free + max((_fit(cluster, [one]) for one in with_gpus), default=0)
    return free + _fit(cluster, with_gpus)


def _fit(cluster: Cluster, models: Sequence[tuple[int, int]]) -> int:
    """Pods that fit into `peak_gpus`, of models with so many GPUs and pods; the smallest first."""
    if cluster.peak_gpus is None:
        return sum(pods for _, pods in models)
    room, found = cluster.peak_gpus, 0
    for gpus, pods in models:
        more = min(pods, room // gpus)
        room, found = room - more * gpus, found + more
    return max(found, min(1, len(models)))  # one that is larger runs alone
