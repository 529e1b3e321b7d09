"""Prompts as embeddings: the last hidden state of the text encoder, as the pipeline computes it.

Every prompt is padded to the tokenizer's length; attention sees the padding, as in training. Two
prompts that reach the network as the same tokens are one class, not two, and are refused.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from model_bridges.pipelines.parts import Source

EMPTY = ""


def check_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts, or an error.

    Raises:
        ValueError: If they are not distinct strings, at least one; or one is empty.
    """
    if isinstance(prompts, str) or not prompts or not all(isinstance(p, str) for p in prompts):
        raise ValueError(f"`prompts` must be a list of at least one prompt; got {prompts!r}.")
    texts = tuple(prompts)
    if len(set(texts)) < len(texts):
        raise ValueError(f"`prompts` are the classes and must differ; got {list(texts)}.")
    if any(not text.strip() for text in texts):
        raise ValueError(
            "`prompts` must not hold the empty prompt: it is the unconditional model, the mean over "
            "all captions, and stands for no class. Use the label UNCONDITIONAL."
        )
    return texts


@torch.no_grad()
def embed(source: Source, prompts: tuple[str, ...]) -> Float[Tensor, "K_and_1 S E"]:
    """Embeddings of the prompts and, last, of the empty prompt.

    Raises:
        ValueError: If a prompt is longer than the text encoder reads, or two are the same tokens.
    """
    tokenizer, encoder = source.tokenizer(), source.text_encoder()
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    texts = [*prompts, EMPTY]
    counts = [len(ids) for ids in tokenizer(texts).input_ids]
    for text, count in zip(texts, counts, strict=True):
        if count > length:
            raise ValueError(
                f"a prompt may have {length} tokens, {count} were given and the rest would be "
                f"dropped: {text!r}. Shorten it."
            )
    tokens = tokenizer(
        texts, padding="max_length", max_length=length, return_tensors="pt"
    ).input_ids
    rows = [tuple(row) for row in tokens.tolist()]
    if max(map(max, rows)) >= encoder.config.vocab_size:
        raise ValueError(
            f"{source.name}: the tokenizer has more tokens than the text encoder knows "
            f"({encoder.config.vocab_size}). They do not belong together."
        )
    for i, row in enumerate(rows):
        if row in rows[:i]:
            raise ValueError(
                f"{texts[rows.index(row)]!r} and {texts[i]!r} are the same to the network: equal "
                "tokens. Word them differently, or check the tokenizer's files."
            )
    masked = getattr(encoder.config, "use_attention_mask", False)
    mask = (tokens != tokenizer.pad_token_id).long() if masked else None
    return encoder(tokens, attention_mask=mask)[0]
