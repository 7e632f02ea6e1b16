"""Canaries: keys and tokens through every engine and failure, and no trace of them anywhere."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress

import psutil
import pytest
import yaml
from fake_openai import Asked, FakeOpenAI, Reply, chat_answer
from kills import remote_model
from stub_environment import stub_environment
from workflow_project import Project

KEY = "canary-key-0d9f3b7a"
TOKEN = "hf_canarytoken5c1e88"
COMMON = ("studies=[study2]", "limit=3", "replications=1", "on_invalid=warn")
EXP1 = "results/{}/replication-0/study2_exp1.json"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.setenv("REMOTE_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return Project.copied_to(tmp_path / "project")


def traces(project: Project, shown: str) -> list[str]:
    """Where a canary stands: the terminal, or any file but the one its user wrote it into."""
    found = ["the terminal"] if KEY in shown or TOKEN in shown else []
    for path in project.folder.rglob("*"):
        if path.is_file() and path != project.folder / "config/models.yaml":
            content = path.read_bytes()
            if KEY.encode() in content or TOKEN.encode() in content:
                found.append(str(path.relative_to(project.folder)))
    return found


class Echo:
    """A remote API that says what it was sent, in its answers or its errors.

    Looks at all processes' arguments while it is asked.
    """

    def __init__(self, status: int, *, says: bool) -> None:
        self._status = status
        self._says = says
        self.seen_in_arguments: list[list[str]] = []
        self.saw_key = False

    def __call__(self, asked: Asked) -> Reply:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(KEY in word or TOKEN in word for word in process.cmdline()):
                    self.seen_in_arguments.append(process.cmdline())
        said = str(asked.headers)
        self.saw_key |= KEY in said
        if asked.path.endswith("/models"):
            return Reply({"data": [{"id": "somebodys-model"}]})
        if self._status != 200:
            return Reply({"error": {"message": said}}, self._status)
        answer = chat_answer(said if self._says else "It was good")
        if "top_logprobs" in asked.body:
            likeliest = [{"token": said if self._says else "0", "logprob": -0.5}]
            content = [{**likeliest[0], "top_logprobs": likeliest}]
            answer.body["choices"][0]["logprobs"] = {"content": content}
        return answer


#: Servers by name: the status of their answers, whether these repeat what was sent, and whether
#: their model's answers are then written.
SERVERS = {
    "silent": (200, False, True),
    "answers": (200, True, False),
    "wrong": (400, True, False),
    "unauthorised": (401, True, False),
    "broken": (500, True, False),
}


# With experiment 2, `plan` asks a query first, and may refuse the model before any trial is asked.
@pytest.mark.parametrize("experiments", ["exp1", "exp1, exp2"])
def test_a_key_leaves_no_trace_whatever_the_server_does(project, experiments):
    echoes = {name: Echo(status, says=says) for name, (status, says, _) in SERVERS.items()}
    with ExitStack() as stack:
        for name, echo in echoes.items():
            server = stack.enter_context(closing(FakeOpenAI(echo)))
            entry = {} if "exp2" in experiments else {"tokenizer": None}
            remote_model(project, server.url, key=name, api_key_env="REMOTE_KEY", **entry)
        done = project.snakemake(
            *map(EXP1.format, SERVERS), "--keep-going",
            "--config", f"models=[{', '.join(SERVERS)}]",
            *COMMON, "requests={backoff_s: 0, attempts: 2}", f"experiments=[{experiments}]",
        )  # fmt: skip
    assert done.returncode == 1, done.stdout
    for name, (_, _, written) in SERVERS.items():
        assert (project.folder / EXP1.format(name)).exists() == written, name
        assert echoes[name].saw_key, f"the key was not sent to {name}, so this tests nothing"
        assert not echoes[name].seen_in_arguments
    assert not traces(project, done.stdout)


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_a_token_in_the_environment_leaves_no_trace(project, engine):
    stub_environment(project)
    done = project.snakemake(
        EXP1.format("pico"), "--config", *COMMON, f"engine={engine}", "serving={environment: stub}"
    )
    assert done.returncode == 0, done.stdout
    assert not traces(project, done.stdout)


@pytest.mark.parametrize(
    "entry",
    [
        {"base_url": f"https://user:{KEY}@llm.example.org/v1"},
        {"base_url": f"https://llm.example.org/v1?token={KEY}"},
        {"base_url": f"llm.example.org/{KEY}"},
        {"base_url": "https://llm.example.org/v1", "api_key_env": KEY},
        {"base_url": "https://llm.example.org/v1", "api_key_env": TOKEN},
        {"base_url": "https://llm.example.org/v1", "api_key": KEY},
    ],
    ids=["user", "query", "no scheme", "key for a name", "token for a name", "unknown field"],
)
def test_a_secret_in_models_yaml_is_refused_and_not_repeated(project, entry):
    path = project.folder / "config/models.yaml"
    models = yaml.safe_load(path.read_text())
    models["remote"] = {"name": "m", "engine": "endpoint", **entry}
    path.write_text(yaml.safe_dump(models))
    done = project.snakemake("-n", "--config", "models=[remote]", *COMMON, "experiments=[exp1]")
    assert done.returncode != 0
    assert " key 'remote" in done.stdout
    assert not traces(project, done.stdout)


def test_a_secret_for_the_servers_arguments_is_refused_and_not_repeated(project):
    config = project.folder / "mine.yaml"
    config.write_text(f"serving: {{extra_args: ['--api-key={KEY}']}}\n")
    done = project.snakemake("-n", "--configfile", "mine.yaml")
    config.unlink()
    assert done.returncode != 0
    assert "must not hold --api-key" in done.stdout
    assert not traces(project, done.stdout)
