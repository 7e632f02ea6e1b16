"""From chat messages to token ids: the model's own template, applied straight to ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grace.config import ModelEntry
from grace.digests import digest
from grace.errors import EngineError
from grace.studies.base import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt: its text and its token ids, template tokens included."""

    text: str
    token_ids: tuple[int, ...]


def model_source(name: str, root: Path) -> str:
    """A hub id as it is, or the folder below `root` that `name` stands for.

    Raises `EngineError` where `name` looks like a folder of the project but is none.
    """
    folder = root / name
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "resources/")):
        raise EngineError(
            f"config/models.yaml: the model folder {name} does not exist. Give a folder below the"
            " project's root or a hub id such as 'google/gemma-2-2b-it'."
        )
    return name


def tokenizer_source(entry: ModelEntry, root: Path) -> tuple[str, str]:
    """Folder or hub id of a model's tokeniser, and its revision there.

    `revision` is the model's; where somebody else serves that, it can only be the tokeniser's.
    Raises `EngineError` as `model_source` does.
    """
    revision = entry.tokenizer_revision
    if entry.tokenizer is None or (entry.engine == "endpoint" and revision is None):
        revision = entry.revision
    return model_source(entry.tokenizer or entry.name, root), revision or "main"


class ChatTokenizer:
    """A model's tokeniser and chat template.

    Raises `EngineError` where the tokeniser cannot be loaded or has no chat template.
    """

    def __init__(self, model_key: str, entry: ModelEntry, root: Path) -> None:
        import transformers

        name = entry.tokenizer or entry.name
        source, revision = tokenizer_source(entry, root)
        try:
            self._tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
                source, revision=revision
            )
        except (OSError, ValueError) as error:
            raise EngineError(
                f"model '{model_key}': no tokeniser to be had from '{name}':"
                f" {str(error).splitlines()[0]} Check `name` and `revision` in"
                " config/models.yaml, and HF_TOKEN for gated models."
            ) from None
        if not self._tokenizer.chat_template:
            raise EngineError(
                f"model '{model_key}': '{name}' has no chat template, so it cannot be asked as a"
                " chat model. Choose its instruction-tuned version."
            )
        self._model_key = model_key
        bos = self._tokenizer.bos_token_id
        # The first call also takes truncation and padding out of the backend.
        self._adds_bos = self._tokenizer("")["input_ids"][:1] == [bos] and bos is not None
        self._backend = getattr(self._tokenizer, "backend_tokenizer", None)
        self.terminator_ids = self._terminators(source, revision)

    def _terminators(self, source: str, revision: str) -> tuple[int, ...]:
        """The tokens that end an answer: the generation config's, and the tokeniser's own."""
        import transformers

        found: set[int] = set()
        try:
            config = transformers.GenerationConfig.from_pretrained(source, revision=revision)
        except (OSError, ValueError):
            config = None  # a model need not have one
        eos = config.eos_token_id if config is not None else None
        if eos is not None:
            found |= {eos} if isinstance(eos, int) else set(eos)
        if self._tokenizer.eos_token_id is not None:
            found.add(self._tokenizer.eos_token_id)
        if not found:
            raise EngineError(f"model '{self._model_key}': its tokeniser names no end of turn.")
        return tuple(sorted(found))

    def digests(self) -> dict[str, str]:
        """Digests of the tokeniser as it was loaded, whatever its files, and its chat template."""
        backend = self._backend
        state = backend.to_str() if backend is not None else self._tokenizer.get_vocab()
        return {
            "tokenizer": digest(state),
            "chat_template": digest(self._tokenizer.chat_template),
        }

    def tokenise(self, text: str) -> list[int]:
        """Token ids of a text that carries its special tokens itself."""
        return self.tokenise_all([text])[0]

    def tokenise_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`tokenise` for several texts, which is faster than one by one."""
        if self._backend is not None:
            # Fast, because it leaves out where in the text each token stands.
            found = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
            return [encoding.ids for encoding in found]
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def names(self) -> dict[str, frozenset[int]]:
        """What a server may call a token, and the tokens that it may mean by that.

        A token's name is its text, with or without the space before it, or its piece in the
        vocabulary. Many byte tokens share the name of the character that stands for broken text.
        """
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        ids = [[id_] for id_ in vocabulary.values()]
        cleaned = self._tokenizer.batch_decode(ids)
        texts = self._tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)
        found: dict[str, set[int]] = {}
        for (piece, id_), *own in zip(vocabulary.items(), cleaned, texts, strict=True):
            for name in {piece, piece.replace("\u2581", " "), *own}:
                found.setdefault(name, set()).add(id_)
        return {name: frozenset(meant) for name, meant in found.items()}

    def continuing(self, prompt: Prompt) -> Callable[[Sequence[str]], list[list[int]]]:
        """`tokenise_all` for texts that begin with the prompt, without doing its beginning again.

        A special token cuts a text in two that are tokenised on their own, so only what follows
        the prompt's last one, itself included, is tokenised anew. That the prompt itself comes out
        the same is checked; where it does not, or has no such token, the whole text is tokenised.
        """
        known = self._tokenizer.added_tokens_decoder
        last = max(
            (
                place
                for place, id_ in enumerate(prompt.token_ids)
                if id_ in known and known[id_].special and not known[id_].lstrip
            ),
            default=0,
        )
        cut = -1
        if last:
            cut = prompt.text.rfind(known[prompt.token_ids[last]].content)
        head = list(prompt.token_ids[:last])
        if cut < 0 or head + self.tokenise(prompt.text[cut:]) != list(prompt.token_ids):
            return self.tokenise_all
        return lambda texts: [head + ids for ids in self.tokenise_all([t[cut:] for t in texts])]

    def render(self, messages: Sequence[Message]) -> Prompt:
        """Apply the chat template. Raises `EngineError` unless there is exactly one BOS."""
        chat: list[Any] = list(messages)
        text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        ids = self.tokenise(text)
        bos = self._tokenizer.bos_token_id
        if bos is not None and (ids.count(bos) > 1 or (self._adds_bos and ids.count(bos) == 0)):
            raise EngineError(
                f"model '{self._model_key}': its chat template gives {ids.count(bos)}"
                " beginning-of-text tokens, not one; its distributions would be off."
            )
        return Prompt(text, tuple(ids))


def tokenizer_of(model_key: str, entry: ModelEntry, root: Path) -> ChatTokenizer | None:
    """None for a remote API whose tokeniser the entry does not name."""
    if entry.engine == "endpoint" and entry.tokenizer is None:
        return None
    return ChatTokenizer(model_key, entry, root)
