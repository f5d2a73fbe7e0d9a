"""Other people's selection: what reaches it, and what is said where it is missing or goes wrong."""

import sys

import numpy as np
import pytest

from balal.kernels.herding import herding
from experiments.common import peers


def pool():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 8)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["skactiveml:MaxHerding", "apricot:FacilityLocation"])
def test_max_herding_of_others_is_ours(name):
    pytest.importorskip(name.partition(":")[0])
    features, labelled = pool(), np.array([250, 7, 31])
    picks = peers.pick(name, features, labelled, 40, 0, num_classes=5)
    assert picks.tolist() == herding(features, 40, labelled=labelled).indices.tolist()


@pytest.mark.nightly
@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_picks_rows_without_labels(name):
    pytest.importorskip(name.partition(":")[0])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), 300).astype(np.float32)
    picks = peers.pick(
        name, pool(), np.arange(50), 20, 0, probabilities=probabilities, num_classes=5
    )
    assert picks.shape == (20,)
    assert picks.min() >= 50


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_that_is_not_installed_says_how_to_install_it(monkeypatch, name):
    package = name.partition(":")[0]
    for module in [package, *(found for found in sys.modules if found.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    said = rf"{package}.* is not installed: python -m pip install 'balal\[peers\]'"
    with pytest.raises(ModuleNotFoundError, match=said):
        peers.pick(name, pool(), np.arange(3), 2, 0, probabilities=np.ones((300, 5)), num_classes=5)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("skactiveml:Nothing", r"there is no peer skactiveml:Nothing: choose from skactiveml:"),
        ("skactiveml:Badge", r"goes by the target model's predictions: pass probabilities="),
        ("repeats", r"repeats did not pick 2 different rows without labels"),
        ("labelled", r"labelled did not pick 2 different rows without labels"),
    ],
)
def test_what_cannot_be_asked_or_used_is_refused(monkeypatch, name, said):
    monkeypatch.setitem(peers.PEERS, "repeats", lambda *_, **__: [9, 9])
    monkeypatch.setitem(peers.PEERS, "labelled", lambda *_, **__: [9, 1])
    with pytest.raises(ValueError, match=said):
        peers.pick(name, pool(), np.arange(3), 2, 0, num_classes=5)
