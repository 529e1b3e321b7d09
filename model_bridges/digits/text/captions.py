"""Captions of a digit at several levels, and the tokenizer that knows their words.

    digit     "a handwritten seven"
    parity    "an odd digit"
    any       "a digit"
    empty     ""                    every digit, as "a digit"; what no prompt means

`CAPTIONS` holds each once. The tokenizer is CLIP's byte-pair encoding with merges learned on the
captions: each of their words is one token, any other word in small letters is spelled.
"""

import json
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PROMPTS = tuple(f"a handwritten {word}" for word in WORDS)
PARITY = ("an even digit", "an odd digit")
ANY, EMPTY = "a digit", ""
LEVELS = ("digit", "parity", "any", "empty")
CAPTIONS = (*PROMPTS, *PARITY, ANY, EMPTY)

START, END = "<|startoftext|>", "<|endoftext|>"


def caption_index(labels: Int[Tensor, " n"], level: str) -> Int[Tensor, " n"]:
    """Index into `CAPTIONS` of the caption of every digit at a level.

    Raises:
        ValueError: If the level is unknown.
    """
    if level == "digit":
        return labels
    if level == "parity":
        return len(PROMPTS) + labels % 2
    if level in ("any", "empty"):
        return torch.full_like(labels, CAPTIONS.index(ANY if level == "any" else EMPTY))
    raise ValueError(f"`level` must be one of {LEVELS}; got {level!r}.")


def draw_captions(labels: Int[Tensor, " n"], weights: Float[Tensor, " 4"]) -> Int[Tensor, " n"]:
    """A caption for every digit, its level drawn with the given weights from torch's generator."""
    choices = torch.stack([caption_index(labels, level) for level in LEVELS], 1)
    level = torch.multinomial(weights, len(labels), replacement=True)
    return choices.gather(1, level[:, None])[:, 0]


def true_of(caption: str) -> tuple[int, ...]:
    """The digits of which a caption is true.

    Raises:
        ValueError: If it is none of `CAPTIONS`.
    """
    if caption not in CAPTIONS:
        raise ValueError(f"`caption` must be one of {CAPTIONS}; got {caption!r}.")
    digits = torch.arange(len(WORDS))
    index = CAPTIONS.index(caption)
    return tuple(
        int(digit)
        for digit in digits
        if any(int(caption_index(digit[None], level)) == index for level in LEVELS)
    )


def caption_tokenizer(max_length: int) -> Any:
    """A `CLIPTokenizer` for the captions, padded to `max_length` tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.trainers import BpeTrainer
    from transformers import CLIPTokenizer

    learned = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = Whitespace()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    trainer = BpeTrainer(
        vocab_size=10_000,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    # Every letter alone, too: a word that no caption has is spelled by them.
    learned.train_from_iterator([*CAPTIONS, *letters], trainer)
    # First learned first; transformers' hint misses the pairs that it takes.
    merges: Any = [tuple(merge) for merge in json.loads(learned.to_str())["model"]["merges"]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m) for m in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=max_length,
    )
