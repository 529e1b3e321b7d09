"""Wu, Chen, Li, Wang & Wei 2024, "Theoretical insights for diffusion guidance", arXiv 2403.01639."""

from gmm_speciation.papers.parts import Found, Paper, Part, Settings
from gmm_speciation.reporting.papers import Place, rows_of
from gmm_speciation.verification.controlling import strong_claims

_COMMAND = "gmm-speciation verify --guidance"
_PLACES = {
    "raises the confidence": Place(
        "§3, effect on classification confidence", "the paper: on every path", _COMMAND
    ),
    "differential entropy": Place(
        "§4, effect on distribution diversity", "the paper: it falls", _COMMAND
    ),
    "three aligned components": Place(
        "§6, a curious example of strong guidance",
        "the paper gives a split of the middle component; its settings could not be read, these are ours",
        _COMMAND,
    ),
}


def _strong(settings: Settings) -> Found:
    return Found(rows_of(strong_claims(settings.key, settings.num_samples), _PLACES))


PAPER = Paper(
    "Wu et al. 2024: guidance of Gaussian mixtures",
    "arXiv 2403.01639",
    "Sections are those of the paper's contents; the mixtures and scales of its figures are not "
    "repeated here, each row states its own. A split of the middle component is one of finite steps: "
    "it heals where the steps are refined.",
    (Part("confidence, entropy, a split", (60, 100), _strong),),
)
