# Before the config is used: where the workflow is, and the user's config, read by Grace's own reader,
# which refuses what Snakemake's lets through (keys that stand twice, empty values, alias bombs).

import os
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError


def workflow_folder():
    """The workflow's own folder, whatever uses it and from wherever.

    Of a workflow that Snakemake reads from a hosting provider, a checkout of its commit beside
    Snakemake's own copy: scripts need the library and each other, not single files.
    """
    rules = workflow.current_basedir
    if not hasattr(rules, "hosted_repo"):
        return Path(rules.get_path_or_uri(secret_free=True)).parents[1]
    clone = rules.hosted_repo.repo_clone
    commit = rules.hosted_repo.repo.commit(rules.ref).hexsha
    folder = clone.with_name(f"{clone.name}-{commit}")
    if not folder.exists():
        partial = clone.with_name(f"{folder.name}.{os.getpid()}")
        git = ["git", "-c", "advice.detachedHead=false"]
        subprocess.run([*git, "clone", "-q", "--no-checkout", clone, partial], check=True)
        subprocess.run([*git, "-C", partial, "checkout", "-q", commit], check=True)
        try:
            partial.rename(folder)
        except OSError:  # another process was faster
            if not folder.exists():
                raise
    return folder


ROOT = workflow_folder()
RULES = ROOT / "workflow" / "rules"
sys.path.insert(0, str(ROOT / "workflow" / "lib"))

from grace.errors import GraceError
from grace.places import lead_jobs_to
from grace.settings.sources import check_entries, check_files

lead_jobs_to(ROOT / "workflow" / "lib")

# The user's, or the workflow's own where there is none.
OWN_CONFIG = "config/config.yaml"
CONFIG = OWN_CONFIG if Path(OWN_CONFIG).exists() else str(ROOT / OWN_CONFIG)


def check_given():
    """Raise Snakemake's own error with our message and no traceback."""
    moved = workflow.modifier.path_modifier
    if moved.prefix or moved.modifies_prefixes:
        raise WorkflowError(
            "`prefix` and `replace_prefix` of a module would move Grace's files without its"
            " knowing: set `results` in the module's config instead."
        )
    try:
        check_files([Path(CONFIG), *map(Path, workflow.configfiles)])
        check_entries(workflow.config_settings.config_args or [])
    except GraceError as error:
        raise WorkflowError(str(error)) from None


check_given()
