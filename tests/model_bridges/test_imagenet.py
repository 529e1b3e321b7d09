"""ImageNet's classes by name, decisions between groups of them, and samples of large groups."""

import json
from itertools import pairwise

import numpy as np
import official_files as files
import pytest
import torch
from denoiser_contract import check_denoiser
from oracle import draw

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.classes.groups import read_selection, vocabulary_of
from model_bridges.classes.names import ClassNames, Entry
from model_bridges.classes.samples import over_samples
from model_bridges.denoisers.subset import ClassSubset
from model_bridges.edm2 import imagenet

WORDS = imagenet.vocabulary()
LETTERS = ClassNames.of_classes(["a", "b", "c", "d", "e", "f"])


def select(text):
    return read_selection(text, WORDS)


# --- names ---


def test_labels_follow_the_order_of_the_ids_and_the_known_classes_are_where_they_are_known():
    ids = [entry.identifier for entry in WORDS.entries[:1000]]
    assert ids == sorted(set(ids))
    known = {0: "tench", 207: "golden retriever", 281: "tabby", 388: "giant panda"}
    known[999] = "toilet tissue"
    for label, name in known.items():
        assert imagenet.class_names()[label] == name
        assert WORDS.find(name).classes == (label,)
    assert ids[207] == "n02099601"


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("dog", 118),  # without dhole, dingo and African hunting dog, which are wild dogs
        ("domestic cat", 5),
        ("bird", 59),
        ("animal", 398),
        ("entity", 1000),
    ],
)
def test_a_hypernym_names_all_classes_below_it(word, count):
    assert len(WORDS.find(word).classes) == count


def test_groups_above_contain_those_below():
    chain = ["entity", "animal", "mammal", "carnivore", "canine", "dog", "retriever"]
    sets = [set(WORDS.find(word).classes) for word in chain]
    assert all(below < above for above, below in pairwise(sets))
    assert 207 in sets[-1]


def test_words_are_found_in_any_writing():
    for word in ("Golden_Retriever", "  golden  retriever ", "n02099601", "207"):
        assert WORDS.find(word).classes == (207,)


def test_the_first_name_counts_before_the_others():
    assert 281 in WORDS.find("cat").classes
    lion = WORDS.find("lion").classes
    assert not set(lion) & set(WORDS.find("cat").classes)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("golden retreiver", "Did you mean 'golden retriever'"),
        ("tabbby", "'tabby'"),
        ("crane", r"several meanings; give one by its id: n02012849: crane; n03126707: crane"),
        ("1000", r"not one of 0\.\.999"),
        ("-1", "no class or group"),
        ("", "no class or group"),
    ],
)
def test_words_without_one_meaning_are_refused_with_what_to_write(word, message):
    with pytest.raises(ValueError, match=message):
        WORDS.find(word)


def test_the_data_file_is_what_its_script_makes(tmp_path):
    """On a small WordNet of the same layout; the real one where it is installed."""
    from model_bridges.edm2.imagenet import build

    header = "  1 This software\n"
    lines = [
        "00000010 03 n 01 entity 0 001 ~ 00000020 n 0000 | all  ",
        "00000020 05 n 02 hunting_dog 0 dog 0 002 @ 00000010 n 0000 + 00000030 v 0101 | d | e  ",
    ]
    (tmp_path / "data.noun").write_text(header + "\n".join(lines) + "\n")
    assert build.read_nouns(tmp_path / "data.noun") == {
        "n00000010": (["entity"], []),
        "n00000020": (["hunting dog", "dog"], ["n00000010"]),
    }
    (tmp_path / "ids.txt").write_text("n00000020\n")
    with pytest.raises(ValueError, match="1000 ids in order; got 1"):
        build.build(tmp_path / "ids.txt", tmp_path / "data.noun")
    if build.WORDNET.exists():
        read = imagenet._read()
        (tmp_path / "ids.txt").write_text("\n".join(read["classes"]))
        assert build.build(tmp_path / "ids.txt") == read


# --- groups ---


def test_groups_are_written_in_a_line_or_in_a_file(tmp_path):
    pair = select("golden retriever | tabby")
    assert pair.names == ("golden retriever", "tabby")
    assert pair.groups == ((207,), (281,))
    pets = select("pets: dog, domestic cat | birds: bird")
    assert pets.names == ("pets", "birds")
    assert [len(group) for group in pets.groups] == [123, 59]
    path = tmp_path / "animals.json"
    path.write_text(json.dumps({"pets": ["dog", "domestic cat"], "birds": "bird"}))
    assert select(str(path)) == pets
    path.write_text(json.dumps([["dog", "domestic cat"], [281, 282]]))
    with pytest.raises(ValueError, match="in two groups"):
        select(str(path))
    path.write_text(json.dumps([["dog"], [281, 282]]))
    assert select(str(path)).names == ("dog", "281, 282")
    assert str(select("dog | tabby")) == "dog (118 classes) | tabby (1 class)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog", "at least two groups"),
        ("dog | ", "is empty"),
        ("dog | canine", "class 151 is in two groups, 'dog' and 'canine'"),
        ("dog | catt", "'cat'"),
        ("x: dog | x: bird", "same name"),
        ("dog | dog", "same name"),
        ("absent.json", "There is no file 'absent.json'"),
    ],
)
def test_partitions_that_are_none_are_refused(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        select(text)


@pytest.mark.parametrize(
    "content",
    [
        "[",
        "5",
        "null",
        '{"a": {"b": 1}, "c": []}',
        "[[1.5], [2]]",
        '"dog"',
        '{"a": ["dog"], "a": ["bird"], "b": ["cat"]}',
        "[" * 100_000,
        '[["\\ud800"], ["dog"]]',
        '{"a": ["dog"], "' + "b" * 100_000 + '": ["bird"]}',
    ],
)
def test_files_that_hold_no_groups_are_refused(content, tmp_path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(ValueError, match=r"bad\.json"):
        select(str(tmp_path / "bad.json"))


# --- a model restricted to the classes named ---


@pytest.fixture(scope="module")
def mixture():
    """Six unequal classes in the plane."""
    angles = 2 * np.pi * np.arange(6) / 6
    means = 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    weights = np.array([1, 2, 3, 4, 5, 6]) / 21
    return gs.GaussianMixture.isotropic(means, 0.2 + 0.1 * np.arange(6), weights)


def named_part(mixture, classes):
    """The mixture of some components, weights renormalised."""
    weights = np.exp(np.asarray(mixture.log_weights))[list(classes)]
    variances = 0.2 + 0.1 * np.array(classes)
    means = np.asarray(mixture.means)[list(classes)]
    return gs.GaussianMixture.isotropic(means, variances, weights / weights.sum())


def test_a_restricted_model_is_the_model_of_the_named_classes(mixture):
    """Curves of the restricted oracle are those of the mixture of the named components alone."""
    selection = read_selection("a, c | e, f", LETTERS)
    assert selection.partition.labels == (0, 0, 1, 1)
    restricted = selection.restrict(mb.mixture_denoiser(mixture))
    part = named_part(mixture, selection.classes)
    np.testing.assert_allclose(restricted.class_prior, np.exp(np.asarray(part.log_weights)))
    alone = mb.mixture_denoiser(part)
    x0, labels = draw(part, 40, seed=0)
    sigmas = np.geomspace(0.05, 50, 24)
    partitions = {"groups": selection.partition}
    records = [
        mb.track(model, x0, labels, sigmas=sigmas, partitions=partitions)
        for model in (restricted, alone)
    ]
    for partition in (None, "groups"):
        one, other = (mb.tracked_curve(record, partition) for record in records)
        np.testing.assert_allclose(one.entropy.value, other.entropy.value, atol=1e-9)
        one, other = (mb.gap_curve(record, "bayes", partition) for record in records)
        np.testing.assert_allclose(one.rate.value, other.rate.value, atol=1e-9)


def test_the_denoiser_of_a_group_is_the_posterior_mean_of_its_classes(mixture):
    """`sum_k p(k|x,g) D_k` with the exact posterior is the mean over the group's own mixture."""
    selection = read_selection("a, c | e, f", LETTERS)
    restricted = selection.restrict(mb.mixture_denoiser(mixture))
    x = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = 1.3
    for index, group in enumerate(selection.groups):
        part = named_part(mixture, group)
        posterior = torch.from_numpy(np.array(part.perturb(1.0, sigma).posterior(x.numpy())))
        places = [i for i, g in enumerate(selection.partition.labels) if g == index]
        mean = sum(
            posterior[:, j, None] * restricted(x, sigma, torch.full((7,), place))
            for j, place in enumerate(places)
        )
        whole = mb.mixture_denoiser(part)(x, sigma, mb.UNCONDITIONAL)
        torch.testing.assert_close(mean, whole, rtol=1e-10, atol=1e-10)


def test_a_restricted_model_keeps_the_contract_and_has_no_unconditional_part(mixture):
    restricted = read_selection("b | f", LETTERS).restrict(mb.mixture_denoiser(mixture))
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    check_denoiser(restricted, x, 1.1, 1e-10)
    with pytest.raises(ValueError, match="averages over all of its classes"):
        restricted(x, 1.0, mb.UNCONDITIONAL)
    with pytest.raises(ValueError, match=r"in 0\.\.1; got 0 to 2"):
        restricted(x, 1.0, torch.tensor([0, 1, 2, 1, 0]))
    with pytest.raises(ValueError, match="Is this the model"):
        select("golden retriever | tabby").restrict(mb.mixture_denoiser(mixture))
    with pytest.raises(ValueError, match="different labels"):
        ClassSubset(mb.mixture_denoiser(mixture), (1, 1), (0.5, 0.5))


# --- samples of large groups ---


def test_samples_are_stratified_and_keep_the_priors_of_the_groups():
    selection = select("dog | bird | tabby")
    sample = selection.sample(20, seed=3)
    assert [len(group) for group in sample.groups] == [13, 6, 1]
    assert sample.named == selection.named
    assert sample.is_sample
    assert "dog (13 of 118 classes)" in str(sample)
    weights = sample.prior()
    by_group = np.bincount(sample.partition.labels, weights)
    np.testing.assert_allclose(by_group, np.array([118, 59, 1]) / 178)
    for group, named in zip(sample.groups, selection.named, strict=True):
        places = np.searchsorted(named, group)
        assert set(group) <= set(named)
        assert len(set(group)) == len(group)
        # One class in each of the equal parts of the group.
        edges = np.arange(len(group) + 1) * len(named) / len(group)
        assert (np.floor(edges[:-1]) <= places).all()
        assert (places < np.ceil(edges[1:])).all()
    assert selection.sample(20, seed=3) == sample
    assert selection.sample(20, seed=3, index=1) != sample
    assert not selection.sample(178).is_sample
    assert selection.sample(3).classes[2] == 281
    with pytest.raises(ValueError, match="one class for each of 3 groups; got 2"):
        selection.sample(2)


def test_every_class_of_a_group_is_as_likely_to_be_taken():
    selection = read_selection("a, b, c, d, e | f", LETTERS)
    counts = np.zeros(6)
    for index in range(2000):
        counts[list(selection.sample(3, seed=0, index=index).classes)] += 1
    np.testing.assert_allclose(counts[:5] / 2000, 2 / 5, atol=4 * (0.24 / 2000) ** 0.5)
    assert counts[5] == 2000


def test_the_prior_of_a_model_weighs_the_classes(mixture):
    prior = tuple(np.array([1, 2, 3, 4, 5, 6]) / 21)
    selection = read_selection("a, b, c | d", LETTERS)
    np.testing.assert_allclose(selection.prior(prior), np.array([1, 2, 3, 4]) / 10)
    sample = selection.sample(2, seed=1)
    np.testing.assert_allclose(sample.prior(prior), [0.6, 0.4])
    with pytest.raises(ValueError, match="weight 0"):
        selection.prior((0.0, 0.0, 0.0, 1.0, 0.0, 0.0))


def test_the_dependence_on_the_sample_is_shown(mixture):
    """Equal classes in a group: no dependence. Unequal ones: the spread is that of the samples."""
    denoiser = mb.mixture_denoiser(mixture)
    selection = read_selection("a, b, c, d | f", LETTERS)
    sigmas = np.geomspace(0.05, 50, 16)
    x0, _ = draw(named_part(mixture, (0, 1, 2, 3, 5)), 30, seed=0)

    def measure(model, chosen):
        return mb.entropy_curve(model, x0, sigmas=sigmas, partition=chosen.partition)

    sampled = over_samples(denoiser, selection, measure, max_classes=2, num_samples=3)
    entropies = np.stack([curve.entropy.value for curve in sampled.curves])
    np.testing.assert_allclose(sampled.spread, entropies.std(0, ddof=1))
    np.testing.assert_allclose(sampled.entropy.value, entropies.mean(0))
    assert sampled.spread.max() > 0.01
    assert len({chosen.classes for chosen in sampled.selections}) > 1
    assert sampled.rate.value.shape == (16,)
    with pytest.raises(ValueError, match="nothing to sample"):
        over_samples(denoiser, selection, measure, max_classes=5)
    with pytest.raises(ValueError, match="at least two samples"):
        over_samples(denoiser, selection, measure, max_classes=2, num_samples=1)


def test_vocabularies_of_a_users_own():
    own = ClassNames(3, (Entry("v", ("vowel",), (0,)), Entry("k", ("consonant",), (1, 2))))
    assert read_selection("vowel | consonant", own).groups == ((0,), (1, 2))
    with pytest.raises(ValueError, match=r"has no class in 0\.\.2"):
        ClassNames(3, (Entry("w", ("w",), (3,)),))


def test_numbers_are_names_where_classes_are_called_by_other_numbers(tmp_path):
    """Of labels 1, 2, 3 kept, "1" is the first and nothing is "0"; of labels 0, 1 and words, all as ever."""
    kept = ClassNames.of_classes(["1", "2", "3"])
    listed = tmp_path / "groups.json"
    for text, content in (("1 | 2, 3", [[1], [2, 3]]), ("class 1 | class_2, 3", [["1"], [2, "3"]])):
        listed.write_text(json.dumps(content))
        for one in (text, str(listed)):
            assert read_selection(one, kept).groups == ((0,), (1, 2))
    listed.write_text("[[0], [2]]")
    for one in ("0 | 2", "class 0 | 2", str(listed)):
        with pytest.raises(ValueError, match=r"0' is no class.* called 1, 2, 3; numbers are names"):
            read_selection(one, kept)
    assert ClassNames.of_classes(["dog", "5"]).find("5").classes == (1,)
    with pytest.raises(ValueError, match="called dog, 5; numbers"):
        ClassNames.of_classes(["dog", "5"]).find("0")
    for names in (["0", "1"], ["cat", "1"], ["cat", "dog"]):
        assert [ClassNames.of_classes(names).find(word).classes for word in "01"] == [(0,), (1,)]


def test_a_model_brings_its_own_words(mixture, tmp_path):
    numbered = vocabulary_of(mb.mixture_denoiser(mixture))
    assert read_selection("0, 2 | 5", numbered).groups == ((0, 2), (5,))
    restricted = read_selection("a, c | e, f", LETTERS).restrict(mb.mixture_denoiser(mixture))
    assert restricted.class_names == ("0", "2", "4", "5")
    assert vocabulary_of(restricted).find("4").classes == (2,)
    files.write(tmp_path / "net.pkl", files.TINY | {"label_dim": 1000})
    model = mb.load(f"edm2:{tmp_path / 'net.pkl'}")
    assert vocabulary_of(model).find("golden retriever").classes == (207,)
    named = read_selection("golden retriever | tabby", vocabulary_of(model)).restrict(model)
    assert named.class_names == ("golden retriever", "tabby")
    x = torch.randn(2, *model.event_shape)
    torch.testing.assert_close(
        named(x, 1.0, torch.tensor([0, 1])), model(x, 1.0, torch.tensor([207, 281]))
    )
