"""The objects of an overlay of workflow/kubernetes, as `kubectl kustomize` writes them on stdin.

    python -m grace.cluster.plan.overlay namespaces                        a line for each
    python -m grace.cluster.plan.overlay images                            a line for each
    python -m grace.cluster.plan.overlay objects CLUSTER                   what cluster-up applies
    python -m grace.cluster.plan.overlay rights CLUSTER                    for an administrator
    python -m grace.cluster.plan.overlay manifest CLUSTER COMPONENT NAME [ARGUMENT...]

The last writes one object: the one that is this component, with arguments for Snakemake, under
another name unless NAME is empty. The last three say what the cluster's entry says.
"""

from __future__ import annotations

import copy
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from grace.cluster.plan import as_entry
from grace.cluster.plan.settings import Cluster, Clusters
from grace.errors import ConfigError, GraceError
from grace.settings.explain import explain
from grace.settings.yaml_reader import read_sheet

COMPONENT = "app.kubernetes.io/component"
ARGUMENTS = "GRACE_ARGS"
"""Variable in which a container gets Snakemake's arguments, quoted for a shell."""
CLUSTERS = Path("config/clusters.yaml")
Json = dict[str, Any]


def namespaces(objects: Iterable[Json]) -> set[str]:
    """The namespaces that objects are in."""
    return {one["metadata"]["namespace"] for one in objects if "namespace" in one["metadata"]}


def images(objects: Iterable[Json]) -> set[str]:
    """The images that pods have, made at once or by a Job."""
    return {container["image"] for one in objects for container in as_entry.containers(one)}


def manifest(
    objects: Iterable[Json], component: str, arguments: Sequence[str] = (), name: str = ""
) -> Json:
    """A component's object. Raises `ValueError` where there is not exactly one."""
    (found,) = (
        one for one in objects if one["metadata"].get("labels", {}).get(COMPONENT) == component
    )
    made = copy.deepcopy(found)
    if name:
        made["metadata"]["name"] = name
    for container in as_entry.containers(made):
        others = [one for one in container.get("env", []) if one["name"] != ARGUMENTS]
        container["env"] = [*others, {"name": ARGUMENTS, "value": shlex.join(arguments)}]
    return made


def entry(name: str) -> Cluster:
    """The cluster's entry, alone: a mistake in another one is no matter. Raises `ConfigError`."""
    entries = read_sheet(CLUSTERS, "cluster")
    if name not in entries:
        raise ConfigError(f"{CLUSTERS} has no entry '{name}'.")
    try:
        return Clusters.model_validate({"clusters": {name: entries[name]}}).clusters[name]
    except ValidationError as error:
        raise explain(str(CLUSTERS), error, Clusters, wrapped=True) from None


def main(arguments: Sequence[str]) -> int:
    """Read the objects, and print what is asked for; 1 where the config cannot be read."""
    what, *rest = arguments
    objects = [one for one in yaml.safe_load_all(sys.stdin) if one]
    if what in ("namespaces", "images"):
        for line in sorted({"namespaces": namespaces, "images": images}[what](objects)):
            print(line)
        return 0
    try:
        cluster = entry(rest[0])
    except GraceError as error:
        print(f"\nStopped: {error}", file=sys.stderr)
        return 1
    if what == "manifest":
        _, component, name, *given = rest
        adapted = [as_entry.adapted(one, cluster) for one in objects]
        found = [manifest(adapted, component, given, name)]
    else:
        found = {"objects": as_entry.applied, "rights": as_entry.rights}[what](objects, cluster)
    yaml.safe_dump_all(found, sys.stdout, sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
