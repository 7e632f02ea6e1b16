# Before the config is used: files and `--config` are read by Grace's own reader, which refuses what
# Snakemake's lets through (keys that stand twice, empty values, alias bombs).

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = (
    Path(workflow.basedir).parent
    if Path(workflow.basedir).name == "workflow"
    else Path(workflow.basedir)
)
sys.path.insert(0, str(ROOT / "workflow" / "lib"))

from grace.settings.sources import check_entries, check_files
from grace.errors import GraceError


def check_given():
    """Raise Snakemake's own error with our message and no traceback."""
    try:
        check_files([Path("config/config.yaml"), *map(Path, workflow.configfiles)])
        check_entries(workflow.config_settings.config_args or [])
    except GraceError as error:
        raise WorkflowError(str(error)) from None


check_given()
