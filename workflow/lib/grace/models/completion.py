"""From a text that a base model is to continue to token ids: no chat template has a part in it."""

from __future__ import annotations

from collections.abc import Sequence

from grace.errors import EngineError
from grace.models.chat import ChatTokenizer
from grace.prompts.messages import Message, bare_context

#: The name of the token between texts in models without one for their beginning, such as Qwen's.
#: Instruction-tuned ones of them call a chat's end their end of text.
_BETWEEN_TEXTS = "<|endoftext|>"


class CompletionTokenizer(ChatTokenizer):
    """A model's tokeniser for bare contexts alone. A chat template that it may have is not read.

    `terminator_ids` are the tokens that end a text, and all whose text begins with a line break:
    both end an answer in a list of examples. A token that holds the end of an option *and* a line
    break behind it, as some tokenisers have, counts as neither.

    Raises `EngineError` where the tokeniser cannot be loaded.
    """

    def _check_template(self, name: str) -> None:
        return

    def _terminators(self, source: str, revision: str) -> tuple[int, ...]:
        ends = super()._terminators(source, revision)
        vocabulary = [[id_] for id_ in self._tokenizer.get_vocab().values()]
        texts = self._tokenizer.batch_decode(vocabulary, clean_up_tokenization_spaces=False)
        breaks = {
            id_ for (id_,), text in zip(vocabulary, texts, strict=True) if text.startswith("\n")
        }
        return tuple(sorted({*ends, *breaks}))

    def _control_tokens(self) -> dict[int, str]:
        """Names of the tokens that no text may be read as: special ones and all that were added.

        White space that was added as tokens of its own is ordinary text, and so is what the token
        for unknown text stands for.
        """
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        found = {id_: token.content for id_, token in self._tokenizer.added_tokens_decoder.items()}
        special = map(str, self._tokenizer.all_special_tokens)
        found |= {vocabulary[name]: name for name in special if name in vocabulary}
        if self._tokenizer.unk_token_id not in (None, *self._beginnings()):
            found.pop(self._tokenizer.unk_token_id, None)
        return {id_: name for id_, name in found.items() if name.replace("\u2581", " ").strip()}

    def _beginnings(self) -> tuple[int | None, ...]:
        return self._tokenizer.bos_token_id, self._tokenizer.eos_token_id

    def digests(self) -> dict[str, str | None]:
        """Digest of the tokeniser as it was loaded; there is no template."""
        return {"tokenizer": self._own_digest(), "chat_template": None}

    def _beginning(self) -> str:
        if not self._tokenizer.bos_token and _BETWEEN_TEXTS in self._tokenizer.get_vocab():
            return _BETWEEN_TEXTS
        return super()._beginning()

    def _applied(self, messages: Sequence[Message]) -> str:
        context = bare_context(messages)
        if context is None:
            raise EngineError(
                f"model '{self._model_key}': is asked by completion and was given a chat. Take"
                " `prompting: completion` out of its entry in config/models.yaml."
            )
        return self._beginning() + context
