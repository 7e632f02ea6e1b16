"""The objects of an overlay of workflow/kubernetes, as `kubectl kustomize` writes them on stdin.

    python -m grace.cluster.plan.overlay namespaces                        a line for each
    python -m grace.cluster.plan.overlay images                            a line for each
    python -m grace.cluster.plan.overlay manifest COMPONENT NAME [ARGUMENT...]

The last writes one object: the one that is this component, with arguments for Snakemake, under
another name unless NAME is empty.
"""

from __future__ import annotations

import copy
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

COMPONENT = "app.kubernetes.io/component"
ARGUMENTS = "GRACE_ARGS"
"""Variable in which a container gets Snakemake's arguments, quoted for a shell."""
Json = dict[str, Any]


def namespaces(objects: Iterable[Json]) -> set[str]:
    """The namespaces that objects are in."""
    return {one["metadata"]["namespace"] for one in objects if "namespace" in one["metadata"]}


def images(objects: Iterable[Json]) -> set[str]:
    """The images that pods have, made at once or by a Job."""
    return {container["image"] for one in objects for container in _containers(one)}


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
    for container in _containers(made):
        others = [one for one in container.get("env", []) if one["name"] != ARGUMENTS]
        container["env"] = [*others, {"name": ARGUMENTS, "value": shlex.join(arguments)}]
    return made


def _containers(one: Json) -> list[Json]:
    spec = one.get("spec", {})
    found: list[Json] = spec.get("template", {}).get("spec", spec).get("containers", [])
    return found


def main(arguments: Sequence[str]) -> None:
    """Read the objects, and print what is asked for."""
    what, *rest = arguments
    objects = [one for one in yaml.safe_load_all(sys.stdin) if one]
    if what == "manifest":
        component, name, *given = rest
        yaml.safe_dump(manifest(objects, component, given, name), sys.stdout, sort_keys=False)
        return
    for line in sorted({"namespaces": namespaces, "images": images}[what](objects)):
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
