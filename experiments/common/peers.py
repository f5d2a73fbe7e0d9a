"""Published selection by other people, under names such as `skactiveml:TypiClust`: what ours is
compared with. `python -m pip install 'balal[peers]'` installs them; each is imported when it is
called.

Every peer is a function `(features, labelled, budget, seed)` that returns the rows to label next,
in its order; those that go by the target model's predictions take `probabilities=` too, and those
that cluster by class `num_classes=`.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from balal.extras import Extra


def pick(
    name: str,
    features: Float[np.ndarray, "N D"],
    labelled: Int[np.ndarray, " B"],
    budget: int,
    seed: int,
    *,
    probabilities: Float[np.ndarray, "N C"] | None = None,
    num_classes: int,
) -> Int[np.ndarray, " budget"]:
    """The rows that a peer picks, in its order: int [budget].

    Args:
      name: of `PEERS`.
      features: [N, D].
      labelled: int [B], the rows that have labels already.
      budget: how many to pick.
      seed: of what is random.
      probabilities: [N, C], of the target model, for those in `NEED_MODEL`.
      num_classes: `C`.

    Raises: ValueError for an unknown name, missing probabilities, or picks that are not `budget`
      different rows without labels; ModuleNotFoundError if the peer is not installed, with the
      command that installs it.
    """
    if name not in PEERS:
        raise ValueError(f"there is no peer {name}: choose from {', '.join(PEERS)}")
    if name in NEED_MODEL and probabilities is None:
        raise ValueError(f"{name} goes by the target model's predictions: pass probabilities=")
    with Extra("peers"):
        rows = PEERS[name](
            features, labelled, budget, seed, probabilities=probabilities, num_classes=num_classes
        )
    rows = np.asarray(rows, int)
    if len(set(rows.tolist()) - set(labelled.tolist())) != budget:
        raise ValueError(f"{name} did not pick {budget} different rows without labels")
    return rows


def check_installed(names: Iterable[str]) -> None:
    """ModuleNotFoundError where the package of one of these peers is not installed, with the
    command that installs it."""
    with Extra("peers"):
        for package in {name.partition(":")[0] for name in names}:
            import_module(package)


def _core_set(features, labelled, budget, seed, **_):
    from skactiveml.pool import CoreSet

    return CoreSet(random_state=seed).query(
        features, _answers(features, labelled), batch_size=budget
    )


def _typiclust(features, labelled, budget, seed, **_):
    from skactiveml.pool import TypiClust

    return TypiClust(random_state=seed).query(
        features, _answers(features, labelled), batch_size=budget
    )


def _prob_cover(features, labelled, budget, seed, *, num_classes, **_):
    from skactiveml.pool import ProbCover

    return ProbCover(n_classes=num_classes, random_state=seed).query(
        features, _answers(features, labelled), batch_size=budget
    )


def _max_herding(features, labelled, budget, seed, **_):
    from skactiveml.pool import MaxHerding

    # The radius of the paper; there it is 1 over the number of features by default.
    return MaxHerding(metric_dict=dict(gamma=1.0), random_state=seed).query(
        features, _answers(features, labelled), batch_size=budget
    )


def _badge(features, labelled, budget, seed, *, probabilities, **_):
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    class Given(SkactivemlClassifier):
        """A classifier that has predicted already."""

        def fit(self, X, y, sample_weight=None):
            return self

        def predict_proba(self, X):
            return np.delete(probabilities, labelled, axis=0)

    return Badge(random_state=seed).query(
        features, _answers(features, labelled), Given(), fit_clf=False, batch_size=budget
    )


def _facility_location(features, labelled, budget, seed, **_):
    """MaxHerding under its older name, by lazy greedy search over the whole table."""
    import apricot
    from sklearn.metrics.pairwise import rbf_kernel

    selection = apricot.FacilityLocationSelection(
        budget,
        metric="precomputed",
        initial_subset=labelled if len(labelled) else None,
        random_state=seed,
    )
    return selection.fit(rbf_kernel(features, gamma=1.0)).ranking


def _answers(features: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Labels of the labelled rows, any, as these peers only ask which rows have one; NaN elsewhere:
    [N]."""
    answers = np.full(len(features), np.nan)
    answers[labelled] = 0
    return answers


PEERS: dict[str, Callable[..., Any]] = {
    "skactiveml:CoreSet": _core_set,
    "skactiveml:TypiClust": _typiclust,
    "skactiveml:ProbCover": _prob_cover,
    "skactiveml:MaxHerding": _max_herding,
    "skactiveml:Badge": _badge,
    "apricot:FacilityLocation": _facility_location,
}
# Those whose authors give them rows of norm 1; the others take features as they are.
UNIT_ROWS = (
    "skactiveml:TypiClust",
    "skactiveml:ProbCover",
    "skactiveml:MaxHerding",
    "apricot:FacilityLocation",
)
# Those whose first picks depend on how many there will be.
PLANNED = ("skactiveml:TypiClust",)
# Those that go by the predictions of the target model.
NEED_MODEL = ("skactiveml:Badge",)
