"""Prompts that can be classes: distinct, and read to their end.

Two prompts that reach the network as the same tokens are one class, not two, and are refused.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

EMPTY = ""


def check_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts, or an error.

    Raises:
        ValueError: If they are not distinct strings, at least one; or one is empty.
    """
    listed = isinstance(prompts, Iterable) and not isinstance(prompts, str)
    texts = tuple(prompts) if listed else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"`prompts` must be a list of at least one prompt; got {prompts!r}.")
    if len(set(texts)) < len(texts):
        raise ValueError(f"`prompts` are the classes and must differ; got {list(texts)}.")
    if any(not text.strip() for text in texts):
        raise ValueError(
            "`prompts` must not hold the empty prompt: it is the unconditional model, the mean over "
            "all captions, and stands for no class. Use the label UNCONDITIONAL."
        )
    return texts


def check_tokens(
    pipe: Any, parts: Sequence[str], prompts: Sequence[str], longest: int | float = math.inf
) -> None:
    """Refuse prompts that a pipeline's encoders do not tell apart, or do not read to their end.

    Args:
        pipe: Has the parts.
        parts: Its tokenizers and text encoders.
        longest: Most tokens that the pipeline reads.
        prompts: The classes; the empty prompt is one more.

    Raises:
        ValueError: If a prompt is longer than every text encoder reads, or two are the same tokens to all.
    """
    texts, rows, left = [*prompts, EMPTY], [], [math.inf] * (len(prompts) + 1)
    for part in parts:
        tokenizer = getattr(pipe, part, None)
        if not part.startswith("tokenizer") or tokenizer is None:
            continue
        settings = getattr(pipe, part.replace("tokenizer", "text_encoder")).config
        positions = getattr(settings, "max_position_embeddings", None) or math.inf
        length = min(tokenizer.model_max_length, positions, longest)
        convert = getattr(pipe, "maybe_convert_prompt", lambda text, _: text)
        tokens = [tokenizer(convert(text, tokenizer)).input_ids for text in texts]
        if max(map(max, tokens)) >= settings.vocab_size:
            raise ValueError(
                f"the {part} has more tokens than its text encoder knows ({settings.vocab_size}). They do "
                "not belong together."
            )
        left = [
            min(before, max(len(row) - length, 0)) for before, row in zip(left, tokens, strict=True)
        ]
        rows.append(tokens)
    for text, over in zip(texts, left, strict=True):
        if over and over < math.inf:
            raise ValueError(
                f"a prompt has {over} tokens more than the text encoder reads, which would be dropped: "
                f"{text!r}. Shorten it."
            )
    seen: dict[Any, str] = {}
    for text, row in zip(texts, zip(*rows, strict=True), strict=True):
        other = seen.setdefault(repr(row), text)
        if other is not text:
            raise ValueError(
                f"{other!r} and {text!r} are the same to the network: equal tokens. Word them differently, "
                "or check the tokenizer's files."
            )
