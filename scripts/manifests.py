"""Write an Indexed Job for each model of a run."""

import shlex
from pathlib import Path

from grace.cluster.plan import indexed, policy, policy_report
from grace.settings.project import Project


def write_manifests(project: Project) -> list[Path]:
    """Write a file for each model; their paths. Raises `GraceError`."""
    policy.refuse(policy_report.verdicts(project), project.config.cluster)
    texts = {model: indexed.text(project, model) for model in project.models}
    folder = Path(project.config.results) / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for model, text in texts.items():
        path = folder / f"{model}.yaml"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    from grace.runs.scripting import logged

    with logged(snakemake.log[0]):
        for path in write_manifests(Project(Path(snakemake.params.root), dict(snakemake.config))):
            print(f"kubectl apply -f {shlex.quote(str(path))}")
