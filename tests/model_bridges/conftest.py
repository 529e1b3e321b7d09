"""What several files measure on: an exact mixture posing as a trained model, digits, and a tiny pipeline.

Helpers are imported where they are needed: one file alone does not wait for diffusers.
"""

import shutil

import pytest


@pytest.fixture(scope="session")
def judged():
    from controlled import judged_mixture

    return judged_mixture()


@pytest.fixture(scope="session")
def digits():
    from model_bridges.digits import load_digits

    return load_digits()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A pipeline of diffusers in the released layout."""
    from tiny_pipeline import write_pipeline

    return write_pipeline(tmp_path_factory.mktemp("a pipeline"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="session")
def shared(folder):
    from tiny_pipeline import stable_diffusion

    return stable_diffusion(folder)


@pytest.fixture
def pipe(shared):
    """The pipeline of `folder`; its scheduler is put back."""
    used = shared.scheduler
    yield shared
    shared.scheduler = used


@pytest.fixture(scope="module")
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
