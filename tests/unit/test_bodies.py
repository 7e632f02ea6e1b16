"""Bodies of answers: bounded by what was asked, whole, and refused in words."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fake_openai import Asked, FakeOpenAI, Reply, chat_answer
from fake_vllm import FakeVllm, repeating_ids, vllm_engine

from grace.engines import bodies, node_reads, prompt_logprobs, top_logprobs
from grace.engines.base import Decoding, Generation, GenerationRequest, Score, ScoreRequest
from grace.engines.endpoint import EndpointEngine, preflight
from grace.engines.openai_http import reported, token_usage
from grace.errors import EngineError, RequestError
from grace.settings.config import ModelEntry, RequestsConfig

MIB = 2**20
REQUESTS = RequestsConfig(backoff_s=0, attempts=3, timeout_s=10)


@contextmanager
def endpoint(
    reply: Callable[[Asked], Reply],
) -> Iterator[tuple[EndpointEngine, FakeOpenAI, ModelEntry]]:
    server = FakeOpenAI(reply)
    model = ModelEntry(name="big", engine="endpoint", base_url=server.url)
    with EndpointEngine("remote", model, requests=REQUESTS) as engine:
        yield engine, server, model
    server.close()


def generation(max_tokens: int = 5) -> GenerationRequest:
    messages = ({"role": "user", "content": "How many?"},)
    return GenerationRequest("k", messages, (1, 2), Decoding(0.7, 1.0, max_tokens), seed=1)


def ask(reply: Callable[[Asked], Reply], max_tokens: int = 5) -> tuple[Generation, int]:
    with endpoint(reply) as (engine, server, _):
        (answer,) = engine.generate([generation(max_tokens)])
        return answer, len(server.asked)


def chat(text: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = chat_answer(text).body
    return {**body, **more}


def zipped(text: str, encoding: str = "gzip") -> Reply:
    pack = gzip.compress if encoding != "deflate" else zlib.compress
    return Reply(pack(text.encode()), headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZIP"])
def test_a_compressed_answer_is_read(encoding: str) -> None:
    answer, _ = ask(lambda _: zipped(json.dumps(chat("three")), encoding))
    assert answer.text == "three"


def test_a_bomb_takes_no_more_memory_than_an_honest_answer_may() -> None:
    bomb = zipped(json.dumps(chat("three"))[:-1] + " " * 40 * MIB + "}")
    assert len(bomb.body) < MIB
    tracemalloc.start()
    answer, asked = ask(lambda _: bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.text is None
    assert "too large: more than 1,0" in str(answer.error)
    assert "bytes, decompressed; an answer to this request takes 1,0" in str(answer.error)
    assert asked == 1, "not asked and paid for again"
    assert peak < 10 * MIB


@pytest.mark.parametrize("declared", [True, False])
def test_an_endless_answer_is_one_requests_error(declared: bool) -> None:
    text = json.dumps(chat("three")) + " " * 3 * MIB

    def reply(asked: Asked) -> Reply:
        return Reply(text, headers={} if declared else {"Transfer-Encoding": "chunked"})

    with endpoint(reply) as (engine, server, _):
        (answer,) = engine.generate([generation()])
        assert len(server.asked) == 1
    assert "the server's answer is too large: " in str(answer.error)


def test_a_text_longer_than_its_tokens_can_be_is_refused() -> None:
    answer, asked = ask(lambda _: Reply(chat("word " * 1000)), max_tokens=5)
    assert asked == 1
    assert "has 5,000 characters, but 5 tokens (`max_tokens`) hold 1,280" in str(answer.error)
    answer, _ = ask(lambda _: Reply(chat("word " * 1000)), max_tokens=1000)
    assert answer.error is None


def test_vllm_texts_are_held_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(asked: Asked) -> Reply:
        return Reply({"choices": [{"text": "word " * 1000, "finish_reason": "stop"}]})

    with vllm_engine(reply, monkeypatch, REQUESTS) as (engine, _):
        (answer,) = engine.generate([generation()])
    assert "has 5,000 characters" in str(answer.error)


def test_another_encoding_or_one_cut_off_is_tried_again_and_said() -> None:
    answer, asked = ask(lambda _: Reply("x", headers={"Content-Encoding": "br"}))
    assert (asked, "encoding, 'br', was not asked for (3 tries)" in str(answer.error)) == (3, True)
    cut = zipped(json.dumps(chat("three")))
    answer, asked = ask(lambda _: Reply(cut.body[:-9], headers=cut.headers))
    assert (asked, "compressed text is cut off" in str(answer.error)) == (3, True)


def test_an_error_of_any_size_is_shown_short_and_plain() -> None:
    page = "\x1b[2J\u202e" + "<b>no such model</b>\n" * 10**6
    answer, asked = ask(lambda _: Reply(page, status=400))
    assert asked == 1
    assert "status 400: \ufffd[2J\ufffd<b>no such model</b> <b>no" in str(answer.error)
    assert len(str(answer.error)) < 700
    answer, asked = ask(lambda _: Reply({"error": {"message": "bad \ud83d\0"}}, status=503))
    assert asked == 3
    assert "status 503: bad \ufffd\ufffd (3 tries)" in str(answer.error)


def test_lists_of_models_are_bounded_and_their_names_plain() -> None:
    models = {"data": [{"id": f"![p](../secret{n})"} for n in range(30)]}
    with endpoint(lambda _: Reply(models)) as (_, _, model):
        with pytest.raises(EngineError, match="no model named 'big'") as caught:
            preflight("remote", model, requests=REQUESTS)
    assert "![" not in str(caught.value)
    with endpoint(lambda _: Reply(json.dumps(models) + " " * 17 * MIB)) as (engine, _, _):
        assert engine.models() == []


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"version": "0.32\ud83d", "models": [{"max_model_len": 64}]}, "0.32\ufffd"),
        ({"version": ["![x](y)"], "models": None}, "[x](y)"),
        ({"version": None, "models": {"a": 1}}, None),
    ],
)
def test_what_a_vllm_server_says_of_itself_is_plain(
    facts: dict[str, Any], named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = {
        "/version": {"version": facts["version"]},
        "/v1/models": {"data": facts["models"]},
    }
    real = FakeOpenAI(lambda asked: Reply(replies[asked.path]))
    with vllm_engine(chats, monkeypatch, REQUESTS, lambda _: real.url) as (engine, _):
        version = engine.describe()["version"]
    real.close()
    assert "![" not in str(version)
    assert named is None or len(version) <= 20


def chats(asked: Asked) -> Reply:
    return Reply({"choices": [{"text": "good", "finish_reason": "stop"}]})


def test_a_vllm_server_that_answers_as_another_model_gives_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def named(asked: Asked) -> Reply:
        return Reply({**chats(asked).body, "model": "other"})

    with vllm_engine(named, monkeypatch, REQUESTS) as (engine, _):
        (answer,) = engine.generate([generation()])
    assert "of the model 'other', but 'pico' was asked" in str(answer.error)
    scores = FakeVllm()

    def reply(asked: Asked) -> Reply:
        found = scores(asked)
        found.body["model"] = "other"
        return found

    with (
        pytest.raises(EngineError, match="of the model 'other', but 'pico' was asked"),
        vllm_engine(reply, monkeypatch, REQUESTS) as (engine, _),
    ):
        list(engine.score([scoring()]))


# --- what is in them


def test_an_answer_keeps_which_model_gave_it_in_plain_characters() -> None:
    names = {"model": "gpt-4o-2024-08-06", "system_fingerprint": "![p](../secret.txt)\x1b"}
    answer, _ = ask(lambda _: Reply(chat("three", **names)))
    assert answer.reported_model == "gpt-4o-2024-08-06"
    assert answer.system_fingerprint == "\ufffd\ufffdp\ufffd\ufffd../secret.txt\ufffd\ufffd"
    assert answer.replaced_characters == 6
    answer, _ = ask(lambda _: Reply(chat("three", model={"a": 1}, system_fingerprint="f" * 10**5)))
    assert answer.reported_model == "\ufffd\ufffda\ufffd: 1\ufffd"
    assert answer.system_fingerprint == "f" * 128 + "..."


def test_half_an_emoji_nul_and_broken_utf_8_are_replaced_and_counted() -> None:
    answer, _ = ask(lambda _: Reply(chat("good \ud83d\0", reasoning="why")))
    assert (answer.text, answer.replaced_characters) == ("good \ufffd\ufffd", 2)
    raw = json.dumps(chat("good @")).replace("@", "\udcf0\udc9f").encode("utf-8", "surrogateescape")
    answer, _ = ask(lambda _: Reply(raw))
    assert (answer.text, answer.replaced_characters) == ("good \ufffd\ufffd", 2)


def test_scores_keep_which_model_gave_them() -> None:
    fake = FakeVllm(nodes=None)

    def reply(asked: Asked) -> Reply:
        found = fake(asked)
        return Reply({**found.body, "model": "big-2024-08-06", "system_fingerprint": "fp_1"})

    with endpoint(reply) as (engine, _, _):
        (score,) = engine.score([scoring()])
        assert engine.describe()["version"] == "fp_1"
    assert score.token_logprobs is not None
    assert (score.reported_model, score.system_fingerprint) == ("big-2024-08-06", "fp_1")


@pytest.mark.parametrize(
    "text",
    [
        '{"choices": [], "choices": []}',
        '{"choices": [{"message": {"content": "a", "content": "b"}}]}',
    ],
)
def test_two_values_under_one_key_are_no_answer(text: str) -> None:
    answer, asked = ask(lambda _: Reply(text))
    assert asked == 3
    assert "more than once in one object (3 tries)" in str(answer.error)


def test_a_key_that_stands_twice_among_very_many_is_found_by_comparing_each_but_a_few_times() -> (
    None
):
    class Key(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Key.compared += 1
            return str(self) == other

    pairs = [(Key(f"key{place}"), place) for place in range(1000)]
    with pytest.raises(Exception, match="'key999'"):
        bodies._distinct([*pairs, (Key("key999"), 0)])
    assert Key.compared < 10 * len(pairs)


def test_counts_that_are_none_are_left_out() -> None:
    usage = {
        "prompt_tokens": 5, "completion_tokens": 10**400, "total_tokens": -1, "x" * 65: 1,
        "![p](q)": 1, "half": 0.5, "true": True, "inf": float("inf"),
    }  # fmt: skip
    assert token_usage({"usage": usage}) == {"prompt_tokens": 5}
    assert len(token_usage({"usage": {f"n{n}": n for n in range(1000)}})) == 32


def test_the_limit_follows_from_the_request() -> None:
    small = bodies.most_bytes({"messages": [], "max_tokens": 5})
    large = bodies.most_bytes({"messages": [], "max_tokens": 5000})
    shown = bodies.most_bytes(
        {"messages": [], "max_tokens": 5, "logprobs": True, "top_logprobs": 20}
    )
    assert MIB < small < shown < large < 64 * MIB
    assert (
        bodies.most_bytes({"prompt": [[1] * 4000] * 500, "max_tokens": 9, "logprobs": 20})
        <= 64 * MIB
    )
    assert bodies.most_bytes(None) > MIB


def scoring() -> ScoreRequest:
    return ScoreRequest("s", (1, 2, 3), ((4,), (5, 6), (5, 7, 8)), (0,))


def test_honest_answers_are_far_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest bodies we ask for, as vLLM writes them."""
    sizes = []
    fake = FakeVllm(nodes=None)
    options = tuple((n, n + 1, n + 2) for n in range(20))

    def reply(asked: Asked) -> Reply:
        found = fake(asked)
        for choice in found.body["choices"] if found.status == 200 else []:
            for row in choice.get("prompt_logprobs", [])[1:]:
                for value in row.values():
                    value |= {"rank": 100_000, "decoded_token": " \u4e16\u754c\u4e16\u754c"}
        sizes.append((len(json.dumps(found.body)), bodies.most_bytes(asked.body)))
        return found

    request = ScoreRequest("s", tuple(range(1, 37)) * 20, options, (0, 39))
    with endpoint(reply) as (engine, _, _):
        (score,) = engine.score([request])
    assert score.error is None
    with vllm_engine(repeating_ids(FakeVllm()), monkeypatch, REQUESTS) as (engine, _):
        assert all(one.error is None for one in engine.score([request]))
    assert all(2 * size < most for size, most in sizes)


#: What may stand anywhere in a hostile answer.
_VALUES: list[Any] = [
    None, True, -1, 10**400, 1.5, float("nan"), float("inf"), "", "x", "\ud83d\0", [], {}, [[]],
    {"0": {}}, [None], 10**9, "9" * 5000,
]  # fmt: skip


def spoilt(value: Any, dice: random.Random) -> Any:
    """The value with something hostile somewhere in it."""
    if dice.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return dice.choice(_VALUES)
    changed = dict(value) if isinstance(value, dict) else list(value)
    place = dice.choice(list(changed) if isinstance(changed, dict) else range(len(changed)))
    if dice.random() < 0.1:
        del changed[place]
    else:
        changed[place] = spoilt(changed[place], dice)  # type: ignore[index]
    return changed


def test_300_spoilt_answers_are_errors_of_their_requests_or_harmless() -> None:
    """Nothing but a score, a text or an error in words comes of whatever a server sends."""
    request, fake = scoring(), FakeVllm()
    prompts = {"prompt": [list(p) for p in prompt_logprobs.prompts(request)], "prompt_logprobs": 0}
    exact = fake(Asked("POST", "/v1/completions", {}, prompts)).body
    read = node_reads.bodies(node_reads.nodes([request]))[0]
    wanted = {"prompt": [list(c) for c in read.contexts], "logprob_token_ids": list(read.token_ids)}
    by_nodes = fake(Asked("POST", "/v1/completions", {}, wanted)).body
    entries = [{"token": t, "logprob": -n - 0.5, "bytes": [97]} for n, t in enumerate("abc")]
    content = [{**entries[0], "top_logprobs": entries}]
    of_chat = {"choices": [{"index": 0, "logprobs": {"content": content}}]}
    place = {"tokens": ["a"], "top_logprobs": [{"a": -0.5, "b": -1.5}]}
    contexts = top_logprobs.contexts(request)
    shown = {"choices": [{"index": n, "logprobs": place} for n in range(len(contexts))]}

    def by_completions(answer: Any) -> Score:
        found = top_logprobs.of_completions(answer, len(contexts))
        reads = dict(zip(contexts, found or [], strict=False))
        return top_logprobs.score(request, reads, {"a": frozenset({4})})

    def by_chat(answer: Any) -> Score:
        found = top_logprobs.of_chat(answer)
        reads = {contexts[0]: found} if found else {}
        return top_logprobs.score(request, reads, {"a": frozenset({4})})

    readers: list[tuple[Any, Callable[[Any], Any]]] = [
        (exact, lambda answer: prompt_logprobs.score(request, answer)),
        (by_nodes, lambda a: node_reads.score(request, dict(node_reads.values(a, read)))),
        (shown, by_completions),
        (of_chat, by_chat),
        (chat("three", model="m"), reported),
    ]
    dice, errors = random.Random(11), []
    for number in range(300):
        whole, reader = readers[number % len(readers)]
        answer = spoilt(whole, dice)
        if not isinstance(answer, dict):
            continue
        try:
            found = reader(answer)
        except RequestError as error:
            errors.append(str(error))
            continue
        if isinstance(found, Score):
            errors.append(found.error or "")
    assert len(set(errors)) > 5
    assert max(map(len, errors)) < 300
    with endpoint(lambda _: Reply(spoilt(chat("three", model="m"), dice))) as (engine, _, _):
        for _ in range(100):
            (one,) = engine.generate([generation()])
            assert one.error or one.text is not None
            json.dumps([one.text, one.usage, one.error], ensure_ascii=False).encode()


def test_an_answer_in_many_gzip_members_is_no_way_around() -> None:
    head = gzip.compress(json.dumps(chat("three")).encode())
    answer, _ = ask(lambda _: Reply(head + b"x" * 3 * MIB, headers={"Content-Encoding": "gzip"}))
    assert "too large" in str(answer.error)
