"""Show the pods of a run and what its cluster's rules say of them."""

from pathlib import Path

from grace.cluster.plan import policy_report
from grace.settings.project import Project

if __name__ == "__main__":
    from grace.runs.scripting import logged, show

    with logged(snakemake.log[0]):
        project = Project(Path(snakemake.params.root), dict(snakemake.config))
        show(policy_report.text(project), snakemake.log[0])
