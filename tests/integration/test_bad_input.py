"""Bad input stops a run at once, in a line or two that say where and what to do."""

from __future__ import annotations

import shutil
import socket

import pytest
from workflow_project import ROOT, Project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project.copied_to(tmp_path_factory.mktemp("bad_input") / "project")


def refused(project: Project, *arguments: str) -> str:
    """The output of a run that must fail, in plain words and before any model is loaded."""
    done = project.snakemake(*arguments)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    assert not list(project.folder.glob("results/*/replication-*/study*"))
    return done.stdout


def study1_with(project: Project, old: str, new: str) -> str:
    """A copy of the bundled study 1 with one text replaced."""
    text = (project.folder / "resources/stimuli/study1.csv").read_text(encoding="utf-8")
    assert old in text
    (project.folder / "mine.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    return "study1_csv=mine.csv"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("replications=0", "key 'replications' is 0"),
        ("models=[pcio]", "unknown model 'pcio' in `models`. Did you mean 'pico'?"),
        ("replicatoins=3", "unknown key 'replicatoins'. Did you mean 'replications'?"),
        ("study1_csv=nowhere.csv", "nowhere.csv: no such file"),
        ("variants=[sead]", "unknown variant 'sead'"),
        ("engine=vlm", "key 'engine' is 'vlm'"),
        ("limit=0", "key 'limit' is 0"),
    ],
)
def test_config_mistakes_name_key_value_and_remedy(project, setting, message):
    assert message in refused(project, "--config", setting)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "limit =3"), "--config: 'limit =3' is no key with a value"),
        (("--config", "limit=# x"), "`limit` holds no value: '# x' is a comment in YAML"),
        (("--configfile", "bomb.yaml"), "bomb.yaml: line 6: more than 50,000 keys and values"),
        (("--logger", "grace"), "--logger grace: leave the option out"),
    ],
)
def test_what_snakemakes_own_command_line_would_end_badly_on_is_reported_before(
    project, arguments, message
):
    """It reads these before any Snakefile: in a traceback, or, for aliases of aliases, for ever."""
    lists = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30)]
    (project.folder / "bomb.yaml").write_text("l0: &l0 [x]\n" + "".join(lists))
    done = project.snakemake("-n", *arguments, timeout_s=300)
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("priorQ", "prior", "row 1: study1 needs the column priorQ"),
        (",1,1\n", ",4,1\n", "mine.csv, row 2: access"),
        (",1,1\n", ",1,2\n", "mine.csv, row 2: observe is 2 but access is 1"),
        ("\n1,exams", "\n,exams", "mine.csv, row 2: participant_id"),
        ("\n1,letters", "\n1,exams", "stand in row 2 already"),
    ],
)
def test_stimuli_mistakes_name_file_row_and_column(project, old, new, message):
    assert message in refused(project, "--config", study1_with(project, old, new))


def test_an_empty_and_a_latin1_file(project):
    (project.folder / "empty.csv").write_text("")
    assert "empty.csv: the file is empty" in refused(project, "--config", "study1_csv=empty.csv")
    (project.folder / "latin1.csv").write_bytes("participant_id\nJosé\n".encode("latin-1"))
    assert "line 2: not UTF-8" in refused(project, "--config", "study1_csv=latin1.csv")


def test_a_template_that_would_run_a_command_is_refused_at_a_dry_run(project):
    template = project.folder / "config/prompts/seed/study1_exp1.j2"
    text = template.read_text(encoding="utf-8")
    call = "{{ cycler.__init__.__globals__.os.popen('touch pwned').read() }}"
    template.write_text(f"{text}\n{call}", encoding="utf-8")
    shown = refused(project, "-n")
    template.write_text(text, encoding="utf-8")
    assert "study1_exp1.j2, line 16: a call other than range(n) is not allowed" in shown
    assert not (project.folder / "pwned").exists()


def test_a_variant_that_asks_what_another_asks_is_refused(project):
    shutil.copytree(project.folder / "config/prompts/seed", project.folder / "config/prompts/copy")
    shown = refused(project, "-n", "--config", "variants=[seed, copy]")
    assert "seed and copy, whose prompts for study1_exp1 are the same" in shown


def test_a_missing_r_is_reported_before_any_job(project, monkeypatch):
    # A PATH with what Snakemake's jobs need, and without R.
    folder = project.folder / "without-r"
    folder.mkdir()
    for program in ("bash", "git", "sh"):
        found = shutil.which(program)
        assert found
        (folder / program).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    shown = refused(project)
    assert "R is missing" in shown
    assert "envs/r.yaml" in shown
    assert "steps (" not in shown


def test_a_model_that_needs_a_gpu_is_refused_without_one(project, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    shown = refused(project, "--config", "models=[gemma-2b]")
    assert "gemma-2b" in shown
    assert "GPU" in shown


def test_a_missing_server_environment_names_the_command(project):
    shown = refused(project, "--config", "engine=vllm", "serving={environment: .venv-none}")
    assert "make serve-env" in shown


def test_a_taken_port_is_reported(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = ROOT / ".venv-serve"
        shown = refused(
            project,
            "--config",
            "engine=vllm",
            f"serving={{port: {port}, environment: '{environment}'}}",
        )
    assert str(port) in shown
