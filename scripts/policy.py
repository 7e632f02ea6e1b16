"""Show the pods of a run and what its cluster's rules say of them."""

from pathlib import Path

from grace.cluster import policy, table
from grace.project import Project

if __name__ == "__main__":
    from grace.scripting import logged

    with logged(snakemake.log[0]):
        project = Project(Path(snakemake.params.root), dict(snakemake.config))
        text = table.text(project)
        Path(snakemake.log[0]).write_text(f"{text}\n", encoding="utf-8")
        print(text)
        policy.refuse(table.verdicts(project), project.config.cluster)
