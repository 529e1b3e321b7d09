"""Prompts are classes where a pipeline draws other pictures of them, and as long as what it reads of them."""

import diffusers
import pytest
import torch
from tiny_pipeline import draw, flux, pixart, stable_diffusion_3, stable_diffusion_xl, states

import model_bridges as mb
from model_bridges import pipelines

pytestmark = [
    pytest.mark.usefixtures("offline"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
PIXART = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")
MADE = {name: lambda name=name: pixart(name) for name in PIXART} | {
    "StableDiffusionXLPipeline": stable_diffusion_xl,
    "StableDiffusion3Pipeline": stable_diffusion_3,
    "FluxPipeline": flux,
}
PAIRS = [("a cat", "A Cat"), ("a cat", " a cat\n"), ("a cat", "a  cat"), ("a cat", "a cats")]


@pytest.mark.parametrize("name", MADE)
def test_prompts_are_one_class_where_the_pipeline_draws_one_picture(name):
    """Whether it lowers, strips or spells them alike: its own two runs from one noise say so."""
    pipe = MADE[name]()
    options = {"use_resolution_binning": False} if name in PIXART else {}

    def drawn(prompt):
        return draw(pipe, 1.0, (prompt,), num_inference_steps=2, **options)

    told_apart = 0
    for pair in PAIRS:
        first, second = map(drawn, pair)
        if torch.equal(first, second):
            with pytest.raises(ValueError, match="same to the network: equal tokens"):
                mb.from_pipeline(pipe, pair, size=(16, 16))
            continue
        told_apart += 1
        denoiser = mb.from_pipeline(pipe, pair, size=(16, 16))
        one, other = (denoiser(states(1, 1.0), 1.0, torch.tensor([k])) for k in range(2))
        assert not torch.equal(one, other)
    assert 0 < told_apart < len(PAIRS)


@pytest.mark.parametrize("name", PIXART)
def test_the_length_of_a_prompt_is_what_is_read_of_it(name):
    """Capitals, one unknown word to its tokenizer, are read as letters, of which it drops some."""
    pipe = pixart(name)
    drawn = [
        draw(pipe, 1.0, (text,), num_inference_steps=2, use_resolution_binning=False)
        for text in (400 * "S", 401 * "s")
    ]
    assert torch.equal(*drawn)
    for text in (400 * "S", 400 * "s"):
        with pytest.raises(
            ValueError, match=r"tokens more than the text encoder reads.* Shorten it"
        ):
            mb.from_pipeline(pipe, [text, "a dog"])
    assert mb.from_pipeline(pipe, [100 * "S", 400 * " " + "a dog"]).num_classes == 2


def test_a_prompt_of_which_cleaning_leaves_nothing_is_no_class():
    class Own(diffusers.PixArtSigmaPipeline):
        def _text_preprocessing(self, text, clean_caption=False):
            assert clean_caption  # as its call asks for it
            return [part.partition("#")[0] for part in ([text] if isinstance(text, str) else text)]

    pipe = Own(**pixart("PixArtSigmaPipeline").components)
    with pytest.raises(ValueError, match="'#cat' and '' are the same to the network"):
        mb.from_pipeline(pipe, ["a dog", "#cat"])


def test_embeddings_that_are_equal_are_one_class(pipe, folder):
    """Of an encoding of the user's own, and ready ones: their tokens say nothing."""

    class Own(diffusers.StableDiffusionPipeline):
        def encode_prompt(self, prompt, *args, **options):
            return super().encode_prompt([text[:5] for text in prompt], *args, **options)

    made = Own(**pipe.components, requires_safety_checker=False)
    assert mb.from_pipeline(made, ["a cat", "a dog"]).num_classes == 2
    says = "'a cat' and 'a cats' are the same to the network: equal embeddings"
    with pytest.raises(ValueError, match=says):
        mb.from_pipeline(made, ["a cat", "a cats"])
    rows = torch.randn(3, 16, 16).bfloat16().float()
    for table, empty in ((rows[[0, 0]], None), (rows[:2], rows[1])):
        with pytest.raises(ValueError, match="equal embeddings"):
            pipelines.load(folder, ["a", "b"], embeddings=table, empty_embedding=empty)
    # Apart, but not to a network of half precision.
    near = torch.stack([rows[0], rows[0] * (1 + 2**-15)])
    assert pipelines.load(folder, ["a", "b"], embeddings=near).num_classes == 2
    with pytest.raises(ValueError, match="equal embeddings"):
        pipelines.load(folder, ["a", "b"], embeddings=near, dtype=torch.bfloat16)
