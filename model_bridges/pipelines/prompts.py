"""Prompts that can be classes: distinct, and read to their end.

Two prompts that reach the text encoders as the same tokens, or the network as the same embeddings, are one
class, not two, and are refused.
"""

import hashlib
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import torch

from model_bridges.pipelines.families import Rows, as_read

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
    read = as_read(pipe, texts)
    for part in parts:
        tokenizer = getattr(pipe, part, None)
        if not part.startswith("tokenizer") or tokenizer is None:
            continue
        settings = getattr(pipe, part.replace("tokenizer", "text_encoder")).config
        positions = getattr(settings, "max_position_embeddings", None) or math.inf
        length = min(tokenizer.model_max_length, positions, longest)
        convert = getattr(pipe, "maybe_convert_prompt", lambda text, _: text)
        tokens = [tokenizer(convert(text, tokenizer)).input_ids for text in read]
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
    _refuse_equal(texts, map(repr, zip(*rows, strict=True)), "tokens", "the tokenizer's files")


def check_rows(rows: Rows, prompts: Sequence[str], dtype: torch.dtype) -> None:
    """Refuse prompts of which a network is given the same: their pipeline, or who embedded them, joined them.

    Args:
        rows: Conditions, a row a prompt and, where there is one, a row of the empty prompt.
        prompts: The classes.
        dtype: What the network computes in.

    Raises:
        ValueError: If two rows are equal.
    """
    given = [value.to(dtype) if value.is_floating_point() else value for value in rows.values()]
    digests = (
        tuple(hashlib.sha256(one.cpu().double().numpy()).digest() for one in row)
        for row in zip(*(value.contiguous() for value in given), strict=True)
    )
    texts = [*prompts, EMPTY][: len(given[0])]
    _refuse_equal(texts, digests, "embeddings", "what embeds them")


def _refuse_equal(texts: Sequence[str], rows: Iterable[Hashable], what: str, suspect: str) -> None:
    seen: dict[Hashable, str] = {}
    for text, row in zip(texts, rows, strict=True):
        other = seen.setdefault(row, text)
        if other is not text:
            raise ValueError(
                f"{other!r} and {text!r} are the same to the network: equal {what}. Word them differently, "
                f"or check {suspect}."
            )
