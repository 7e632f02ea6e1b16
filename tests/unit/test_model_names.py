"""A server's name for the model that answered, against the one that was asked for."""

import pytest

from grace.models.names import same_model


@pytest.mark.parametrize(
    ("asked", "reported"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("GPT-4o", "gpt-4o-20240806"),
        ("gpt-4", "gpt-4-0613"),
        ("gpt-4-0613", "gpt-4"),
        ("openai/gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o", "openai/gpt-4o"),
        ("accounts/them/models/llama-3-8b", "llama-3-8b"),
        ("mistral-large-latest", "mistral-large-2411"),
        ("llama3", "llama3:latest"),
        ("gemini-1.5-flash", "gemini-1.5-flash-002"),
        ("claude-3-5-sonnet", "claude-3-5-sonnet@20240620"),
        ("gemini-2.5-pro-preview", "gemini-2.5-pro-preview-05-06"),
        ("big model (ours)", "big model (ours)"),
    ],
)
def test_a_dated_version_a_case_or_an_organisation_is_the_same_model(asked, reported):
    assert same_model(asked, reported)


@pytest.mark.parametrize(
    ("asked", "reported"),
    [
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("gpt-4", "gpt-4o"),
        ("gpt-4", "gpt-4.1"),
        ("gpt-4", "gpt-4-32k"),
        ("gpt-4o", "gpt-3.5-turbo"),
        ("claude-opus-4", "claude-opus-4-1"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),
        ("llama-3-8b", "llama-3-70b"),
        ("gpt-4", "gpt-4-9999"),
        ("gpt-4o", "gpt-4o-2024-13-06"),
        ("meta/llama-3-8b", "someone/llama-3-8b"),
        ("llama-3-8b", "llama-3-8b-instruct"),
        ("big", "big\ud83d"),
        ("gpt-4o", "-2024-08-06"),
        ("gpt-4o", "openai/"),
        ("gpt-4o", "['gpt-4o']"),
    ],
)
def test_anything_further_is_another_model(asked, reported):
    assert not same_model(asked, reported)
