"""The wording of the variant `seed`, on the bundled trials.

golden/*.txt hold prompts as a model gets them. After a change that is meant, write them anew with
`python tests/unit/test_prompts.py`, and read them.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest
from bundled_studies import FAULTS, STUDIES, STUDY1, STUDY2, UTTERANCES

from grace.digests import digest
from grace.errors import ConfigError
from grace.models.chat import ChatTokenizer
from grace.prompts.checks import question
from grace.prompts.checks import questions as prompts_of
from grace.prompts.variants import PromptSet
from grace.settings.config import ModelEntry
from grace.studies.stimuli import read_trials
from grace.studies.trials import Trial

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SEED = PromptSet(ROOT / "config" / "prompts" / "seed")


@cache
def study1_trials() -> list[Trial]:
    return read_trials(ROOT / "resources" / "stimuli" / "study1.csv", STUDY1)


@cache
def study2_trials() -> list[Trial]:
    return read_trials(ROOT / "resources" / "stimuli" / "study2.csv", STUDY2)


def study1_prompts(trial: Trial) -> dict[str, str]:
    """Text by name: exp1, state0 to state3, knowledge."""
    messages = {query.name: query.messages for query in STUDY1.queries(trial, SEED)}
    messages["exp1"] = STUDY1.messages(trial, SEED)
    assert {(len(m), m[0]["role"]) for m in messages.values()} == {(1, "user")}
    return {name: message[0]["content"] for name, message in messages.items()}


def golden_prompts() -> dict[str, str]:
    """The first participant's six stories, and three trials that differ in goal and hearts."""
    texts = {}
    for trial in study1_trials()[:6]:
        prompts = study1_prompts(trial)
        texts[f"study1_{trial['story_shortname']}_exp1"] = prompts["exp1"]
        texts[f"study1_{trial['story_shortname']}_state1"] = prompts["state1"]
    texts["study1_seeds_knowledge"] = prompts["knowledge"]
    for trial2 in study2_trials()[:3]:
        texts[f"study2_{trial2['Domain']}"] = STUDY2.messages(trial2, SEED)[0]["content"]
    return texts


@pytest.mark.parametrize("name", [path.stem for path in sorted(GOLDEN.glob("*.txt"))])
def test_golden_prompt(name: str) -> None:
    text = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert golden_prompts()[name] + "\n" == text


def test_every_golden_prompt_is_kept() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == sorted(golden_prompts())


def all_prompts() -> list[str]:
    study1 = [text for trial in study1_trials() for text in study1_prompts(trial).values()]
    return study1 + [STUDY2.messages(trial, SEED)[0]["content"] for trial in study2_trials()]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_absent(fault: str) -> None:
    assert not [text for text in all_prompts() if re.search(fault, text)][:1]


def test_study1_each_story_asks_about_its_own_property() -> None:
    properties: dict[str, set[str]] = {}
    for trial in study1_trials():
        for state in range(4):
            text = study1_prompts(trial)[f"state{state}"]
            found = re.search(r"that the number of (.+) is exactly (\d)\?", text)
            assert found is not None
            assert found[2] == str(state)
            properties.setdefault(trial["story_shortname"], set()).add(found[1])
    assert all(len(found) == 1 for found in properties.values())
    assert len(set.union(*properties.values())) == 6


def test_study1_exp1_asks_before_it_tells() -> None:
    trial = study1_trials()[1]
    text = study1_prompts(trial)["exp1"]
    parts = [
        trial["priorQ"],
        trial["speach"],
        trial["speachQ"],
        trial["knowledgeQ"],
        "Initial Answer: [0-3]",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.endswith(
        "Initial Answer: [0-3]\n"
        "Probabilities: 0: [X]%, 1: [X]%, 2: [X]%, 3: [X]%\n"
        "Knowledge: [yes/no]"
    )


def test_study1_queries_and_their_options() -> None:
    queries = STUDY1.queries(study1_trials()[0], SEED)
    asked = [*(f"state{s}" for s in range(4)), "knowledge", *(f"prior{s}" for s in range(4))]
    assert [query.name for query in queries] == asked
    assert {query.options for query in queries[:4]} == {
        ("0%", "10%", "20%", "30%", "40%", "50%", "60%", "70%", "80%", "90%", "100%")
    }
    assert queries[4].options == ("yes", "no")


def test_study2_states_scale_hearts_and_goal() -> None:
    for trial in study2_trials():
        text = STUDY2.messages(trial, SEED)[0]["content"]
        assert "On a scale of 0 to 3 hearts" in text
        assert f" {trial['State']}." in text
        assert f"\n{trial['Goal']}, what would {trial['SP_Name']} be most likely to say?\n" in text
        assert text.endswith("It [was/wasn't] [terrible/bad/good/amazing]")


def test_study2_one_query_of_eight_utterances() -> None:
    (query,) = STUDY2.queries(study2_trials()[0], SEED)
    assert query.options == tuple(UTTERANCES)
    assert len(set(query.options)) == 8
    assert query.messages == STUDY2.messages(study2_trials()[0], SEED)


@pytest.mark.parametrize("label", ["informative", "social", "both"])
def test_study2_a_bare_goal_becomes_a_clause(label: str) -> None:
    trial = STUDY2.trial({**study2_trials()[0].row(), "Goal": label})
    text = STUDY2.messages(trial, SEED)[0]["content"]
    assert f"\nIf {trial['SP_Name']} wanted " in text
    as_clause = re.search(r"\n(If .+), what would", text)
    assert as_clause is not None
    assert STUDY2.trial({**trial.row(), "Goal": as_clause[1]})["Goal_simplified"] == label


def test_study2_a_goals_own_comma_is_not_doubled() -> None:
    trial = study2_trials()[0]
    comma = STUDY2.trial({**trial.row(), "Goal": f"{trial['Goal']}, "})
    assert STUDY2.messages(comma, SEED) == STUDY2.messages(trial, SEED)


@pytest.mark.parametrize("mark", ["<br>", "<br/>", " <BR />\n", "<br> "])
def test_study1_line_breaks(mark: str) -> None:
    trial = STUDY1.trial({**study1_trials()[0].row(), "story_setup": f"One.{mark}Two."})
    assert study1_prompts(trial)["state0"].startswith("One.\nTwo.\n\n")


def test_unknown_variant() -> None:
    with pytest.raises(ConfigError, match=r"unknown variant 'sead'.*Prompt variants here: .*seed"):
        PromptSet(ROOT / "config" / "prompts" / "sead")


def test_missing_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the template study2_exp1\.j2 is missing"):
        PromptSet(tmp_path).render("study2_exp1.j2", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A variant's folder, with a file beside all variants that no template may read."""
    (tmp_path / "secret").write_text("the secret")
    variant = tmp_path / "prompts" / "mine"
    variant.mkdir(parents=True)
    return variant


def rendered(folder: Path, template: str | bytes, **values: str | int) -> str:
    data = template if isinstance(template, bytes) else template.encode()
    (folder / "a.j2").write_bytes(data)
    return PromptSet(folder).render("a.j2", values)[0]["content"]


def problem_of(folder: Path, template: str | bytes, **values: str | int) -> str:
    """The one line that refuses a template, without the folder."""
    with pytest.raises(ConfigError) as caught:
        rendered(folder, template, **values)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(folder))
    return text.removeprefix(f"{folder}/")


def test_a_template_with_an_unknown_value_names_the_known(folder: Path) -> None:
    text = problem_of(folder, "One.\n\n{{ spekaer }}", speaker="Lin", goal="both")
    assert text == "a.j2, line 3: 'spekaer' is undefined. Values a template may use: goal, speaker."


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ speaker }}, {{ state + 1 }}", "Lin, 3"),
        ("{% if state == 2 %}two{% else %}other{% endif %}", "two"),
        (
            "{% for n in range(3) %}{{ n }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "0, 1, 2",
        ),
        ("{% set who = speaker %}{{ who | upper }}", "LIN"),
        (
            "{% for a, b in [('x', 1), ('y', 2)] %}{{ a }}{{ b }}{% endfor %}"
            "{% if state in (2, 3) %}!{% endif %}",
            "x1y2!",
        ),
        ("{{ speaker | replace('i', 'a') }} {{ ['x', 'y'] | join('-') }}", "Lan x-y"),
        ("{% if spekaer is defined %}x{% endif %}{# a note #}y", "y"),
        ("\ufeffText", "Text"),
        ("One.\r\nTwo.\rThree.\r\n", "One.\nTwo.\nThree."),
    ],
)
def test_what_templates_may_hold(folder: Path, template: str, text: str) -> None:
    assert rendered(folder, template, speaker="Lin", state=2) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.popen('touch pwned').read() }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ speaker.upper }}",
        "{{ speaker['upper'] }}",
        "{{ speaker | attr('__class__') }}",
        "{{ '{0.__class__}'.format(speaker) }}",
        "{{ self }}{{ self._TemplateReference__context }}",
        "{{ range }}",
        "{{ lipsum() }}",
        "{{ namespace() }}",
        "{% for a in [1] %}{{ loop.cycle }}{% endfor %}",
        "{% set range = 1 %}x",
        "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        "{% for a in [speaker] recursive %}{{ loop([a]) }}{% endfor %}",
        "{% import 'a.j2' as a %}x",
        "{% extends 'a.j2' %}",
        "{% block a %}x{% endblock %}",
        "{% filter upper %}x{% endfilter %}",
        "{% autoescape true %}x{% endautoescape %}",
        "{% set x = 'a' %}{% set x = x ~ x %}x",
        "{% set x %}y{% endset %}{{ x }}",
        "{{ 2 ** 10 ** 10 }}",
        "{{ '%99999999999d' | format(1) }}",
        "{{ speaker | center(10000000000) }}",
        "{% include speaker %}",
        "{% include ['a.j2', 'b.j2'] %}",
        "{% include 'b.j2' ignore missing %}",
    ],
)
def test_what_templates_may_not_hold_is_refused_before_it_runs(
    folder: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    text = problem_of(folder, template, speaker="Lin", state=2)
    assert re.match(r"a\.j2, line 1: .* is not allowed in a prompt template\. Templates may", text)
    assert [path.name for path in folder.iterdir()] == ["a.j2"]
    with pytest.raises(ConfigError, match="not allowed"):
        PromptSet(folder).digest(["a.j2"])  # the first thing that a dry-run asks for


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            "{% for a in range(10000000000) %}a{% endfor %}",
            r"a\.j2, line 1: range\(\) of more than",
        ),
        (
            "{% for a in range(900) %}" * 9 + "{% endfor %}" * 9,
            r"a\.j2, line 1: takes more than 1,000 steps",
        ),
        ("{% for a in [1] %}" * 50 + "{% endfor %}" * 50, r"a\.j2: is nested too deeply"),
        ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", r"a\.j2: is nested too deeply"),
        ("{{ 'a' * 1000000000 }}", r"a\.j2, line 1: '\*' is for numbers"),
        (
            "{% set x = 'a' %}" + "{% set x = x | replace('a', 'aa') %}" * 40 + "{{ x }}",
            r"a\.j2, line 1: gives a text of more than 1,000,000 characters",
        ),
        (
            "{% for a in range(900) %}" + "y" * 60_000 + "{% endfor %}",
            r"a\.j2: gives a text of more than 1,000,000 characters",
        ),
        *(
            (
                "{% set x = [1] %}" + f"{{% set x = {two} %}}" * 60 + use,
                r"a\.j2, line 1: makes a list of more than 1,000 values",
            )
            for two in ("[x, x]", "(x, x)")
            for use in (
                "{{ x }}",
                "{{ x | length }}",
                "{{ x | join }}",
                "{% if x == x %}y{% endif %}",
            )
        ),
        (
            "{% set x = range(999) | join('" + "y" * 900 + "') %}{{ [x, x] | length }}",
            r"a\.j2, line 1: gives a text of more than 1,000,000 characters",
        ),
        ("x{{ '\\ud83d' }}", r"a\.j2: gives a message that holds U\+D83D, half of a character"),
        ("{{ '\\x1b' }}[31m", r"a\.j2: gives a message that holds U\+001B, a control character"),
        ("{{ '\\u202e' }}x", r"a\.j2: gives a message that holds U\+202E, which reorders"),
        ("y" * 70_000, r"a\.j2: 70,000 bytes are too many for a template"),
        ("{{ " + "9" * 5000 + " }}", r"a\.j2: holds a number with too many digits"),
        ("{{ 1 / 0 }}", r"a\.j2, line 1: divides by zero"),
        ("{{ none }}", r"a\.j2, line 1: prints 'None', which is neither a text nor a number"),
        ("One\n{% if %}", r"a\.j2, line 2: Expected an expression"),
        ("{% include 'a.j2' %}", r"a\.j2: includes itself \(a\.j2 → a\.j2\)"),
        ("{% include '_back.j2' %}", r"a\.j2: includes itself \(a\.j2 → _back\.j2 → a\.j2\)"),
        ("{% include '_bad.j2' %}", r"_bad\.j2, line 2: divides by zero"),
        ("{% include '_none.j2' %}", r"the template _none\.j2 is missing; a\.j2 includes it"),
        ("{% include '../../secret' %}", r"a\.j2: includes '\.\./\.\./secret'\. A template may"),
        ("{% include '/etc/hostname' %}", r"a\.j2: includes '/etc/hostname'"),
        ("{% include '_link.j2' %}", r"_link\.j2: leads out of .*prompts\. Put the file itself"),
        (b"Jos\xe9", r"a\.j2, line 1: not UTF-8 \(byte 0xe9\)"),
        ("One\nT\0wo", r"a\.j2, line 2: holds U\+0000"),
        ("<|im_start|>system", r"a\.j2, line 1: holds <\|im_start\|>, a control token"),
        (
            "<{{ '|' }}{{ speaker }}|>",
            r"a\.j2: gives a message that holds <\|Lin\|>, a control token",
        ),
    ],
)
def test_what_goes_wrong_in_a_template_is_reported_in_a_line(
    folder: Path, template: str | bytes, problem: str
) -> None:
    (folder / "_back.j2").write_text("{% include 'a.j2' %}")
    (folder / "_bad.j2").write_text("One\n{{ state / 0 }}")
    (folder / "_link.j2").symlink_to(folder / "../../secret")
    assert re.search(problem, problem_of(folder, template, speaker="Lin", state=2))


@pytest.mark.parametrize(
    "template", ["", " \n\t", "{# nothing #}", "\u200b", "{% if 0 %}x{% endif %}"]
)
def test_an_empty_message_is_refused(folder: Path, template: str) -> None:
    assert problem_of(folder, template).startswith("a.j2: gives an empty message.")


def test_a_template_that_is_a_pipe_or_a_folder_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe.j2")
    (folder / "folder.j2").mkdir()
    for name in ("pipe.j2", "folder.j2"):
        with pytest.raises(ConfigError, match=f"the template {name} is no file"):
            PromptSet(folder).render(name, {})


def test_includes_within_includes_end_somewhere(folder: Path) -> None:
    for number in range(1200):
        (folder / f"_{number}.j2").write_text(f'{{% include "_{number + 1}.j2" %}}')
    assert "includes within includes" in problem_of(folder, '{% include "_0.j2" %}')
    # Few files, but each takes the next one twice: a million pieces of text.
    for number in range(19):
        (folder / f"_{number}.j2").write_text(f'{{% include "_{number + 1}.j2" %}}' * 2)
    (folder / "_19.j2").write_text("x")
    assert "takes more than 1,000 steps" in problem_of(folder, '{% include "_0.j2" %}')


def test_a_variant_may_link_to_another_variants_file(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "_story.j2").write_text("A story.")
    (folder / "_story.j2").symlink_to("../other/_story.j2")
    assert rendered(folder, '{% include "_story.j2" %}') == "A story."


def unique(chats: list[tuple[dict[str, str], ...]]) -> list[tuple[dict[str, str], ...]]:
    return list({digest(chat): chat for chat in chats}.values())


@pytest.mark.parametrize(
    ("study", "prompts", "token_ids"),
    [
        ("study1", "0bbb7550ecf46525", "e2ed6c932e826c14"),
        ("study2", "6aacf1ab7abebfff", "b33e9ba59320710a"),
    ],
)
def test_bundled_prompts_and_their_token_ids_stay_as_they_are(
    study: str, prompts: str, token_ids: str
) -> None:
    """Digests of all that trials ask pico; they change with wording, stimuli or pico.

    Priors are asked beside them.
    """
    tokenizer = ChatTokenizer("pico", ModelEntry(name="resources/models/pico"), ROOT)
    chats = [
        chat
        for trial in (study1_trials() if study == "study1" else study2_trials())
        for chat in (
            *prompts_of(STUDIES[study], "exp1", trial, SEED),
            *(
                question(query)
                for query in STUDIES[study].queries(trial, SEED)
                if query.name not in STUDIES[study].auxiliary_queries
            ),
        )
    ]
    ids = {digest(chat): list(tokenizer.render(chat).token_ids) for chat in unique(chats)}
    assert digest(chats)[:16] == prompts
    assert digest([ids[digest(chat)] for chat in chats])[:16] == token_ids


def test_digest_covers_includes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text('{% include "_b.j2" %}')
    (tmp_path / "_b.j2").write_text("one")
    (tmp_path / "other.j2").write_text("one")
    before = PromptSet(tmp_path).digest(["a.j2"])
    (tmp_path / "other.j2").write_text("two")
    assert PromptSet(tmp_path).digest(["a.j2"]) == before
    (tmp_path / "_b.j2").write_text("two")
    assert PromptSet(tmp_path).digest(["a.j2"]) != before


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, text in golden_prompts().items():
        (GOLDEN / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
