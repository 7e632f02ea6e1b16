"""What the commands of scripts/cluster need of the config, as lines of shell.

    python -m grace.cluster.plan.shell_settings cluster  CLUSTER, OVERLAY, NAMESPACE, CONTEXT,
        IMAGE, INSTANCE, TOKEN_SECRET, START_PATIENCE_S
    python -m grace.cluster.plan.shell_settings results  RESULTS

They are read as Snakemake reads them, but alone: a mistake in another key must keep no one from
stopping what runs.
"""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grace.cluster.plan.settings import Cluster
from grace.errors import ConfigError, GraceError
from grace.settings.config import Config
from grace.settings.explain import DNS_LABEL, NAME
from grace.settings.yaml_reader import read_sheet

CONFIG = Path("config/config.yaml")
CLUSTERS = Path("config/clusters.yaml")
OVERLAYS = Path("workflow/kubernetes/overlays")


def text_at(values: Mapping[str, Any], source: Path, keys: tuple[str, ...], default: str) -> str:
    """The text below these keys, or the default where there is none. Raises `ConfigError`.

    null is as good as nothing where nothing is the default.
    """
    found: Any = values
    for key in keys:
        if not isinstance(found, Mapping) or key not in found:
            return default
        found = found[key]
    if found is None and not default:
        return default
    if not isinstance(found, str) or not found:
        instead = f" for '{default}'" if default else ""
        raise ConfigError(
            f"{source}, `{'.'.join(keys)}` must be a text, and not an empty one. Write one, or"
            f" leave the line out{instead}."
        )
    return found


def results(root: Path) -> dict[str, str]:
    """The folder of the results. Raises `ConfigError`."""
    config = read_sheet(root / CONFIG, "setting")
    default = str(Config.model_fields["results"].default)
    return {"RESULTS": text_at(config, CONFIG, ("results",), default)}


def cluster(root: Path) -> dict[str, str]:
    """Which cluster the commands speak to. Raises `ConfigError`."""
    config = read_sheet(root / CONFIG, "setting")
    name = text_at(config, CONFIG, ("cluster",), str(Config.model_fields["cluster"].default))
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"{CONFIG}, `cluster`: '{name}' is no name of a cluster. Allowed: letters, digits, '.',"
            " '_' and '-'."
        )
    overlay = OVERLAYS / name
    if not (root / overlay).is_dir():
        raise ConfigError(
            f"there is no folder {overlay} for the cluster '{name}'. Copy one of {OVERLAYS}, or"
            f" name another in {CONFIG}: cluster."
        )
    entries = read_sheet(root / CLUSTERS, "cluster")
    if name not in entries:
        raise ConfigError(
            f"{CONFIG}, `cluster`: {CLUSTERS} has no entry '{name}'. It holds:"
            f" {' '.join(sorted(entries))}. Copy one of them under that name."
        )
    unset = Cluster()

    def of_entry(*keys: str, default: str) -> str:
        return text_at(entries, CLUSTERS, (name, *keys), default)

    instance = of_entry("instance", default="")
    if instance and not re.fullmatch(DNS_LABEL, instance):
        raise ConfigError(
            f"{CLUSTERS}, `{name}.instance`: '{instance}' cannot begin names. Allowed: small"
            " letters, digits and '-'."
        )
    token = entries[name].get("hf_token") if isinstance(entries[name], Mapping) else None
    of_token = token.get("name") if isinstance(token, Mapping) else None
    return {
        "CLUSTER": name,
        "OVERLAY": str(overlay),
        "NAMESPACE": of_entry("namespace", default=unset.namespace),
        "CONTEXT": of_entry("context", default=unset.context or ""),
        "IMAGE": of_entry("images", "default", default=unset.images["default"]),
        "INSTANCE": instance,
        # One that exists, of which the commands keep away.
        "TOKEN_SECRET": of_token if isinstance(of_token, str) else "",
        "START_PATIENCE_S": _whole(entries[name], "start_patience_s", unset.start_patience_s),
    }


def _whole(entry: object, key: str, default: float) -> str:
    """A number of the entry for a shell, which knows whole ones only."""
    found = entry.get(key) if isinstance(entry, Mapping) else None
    usable = isinstance(found, int | float) and not isinstance(found, bool)
    return str(math.ceil(found if usable and found is not None else default))


def lines(values: Mapping[str, str]) -> list[str]:
    """Assignments for a shell, to which the values are text whatever they hold."""
    return [f"{name}={shlex.quote(value)}" for name, value in values.items()]


def main(arguments: list[str]) -> int:
    """Print what is asked for; 1 where that cannot be read."""
    (what,) = arguments
    try:
        found = {"cluster": cluster, "results": results}[what](Path())
    except GraceError as error:
        print(f"\nStopped: {error}", file=sys.stderr)
        return 1
    print(*lines(found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
