"""Every head with every rule against imbalance that goes with it, under names such as `svm`, `logistic+balanced_softmax`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from balal.heads import ldam, logistic, pseudo, rebalance, svm


@dataclass(frozen=True)
class Task:
    """A labelled set, the rest of the pool (None: nothing there), a test set, and what `fit` is told beside them."""

    features: np.ndarray
    labels: np.ndarray
    pool: np.ndarray | None
    tests: np.ndarray
    options: dict[str, Any]

    @property
    def counts(self) -> np.ndarray:
        return rebalance.counts_of(self.labels, num_classes=self.options["num_classes"])


Fitted = tuple[Any, np.ndarray]
"""A head, and the classes that it predicts for the test set."""


def fit(name: str, task: Task) -> Fitted:
    """The head of that name, fitted and asked."""
    return HEADS[name](task)


def known(name: str) -> str:
    """The name, where there is such a head; a ValueError with the nearest ones otherwise."""
    if name in HEADS:
        return name
    near = difflib.get_close_matches(name, HEADS, n=3, cutoff=0.3) or list(HEADS)
    raise ValueError(f"there is no head {name!r}; the nearest are {', '.join(near)}")


def _svm(task: Task, *, thresholding: bool = False) -> Fitted:
    head = svm.fit(task.features, task.labels, calibrate=thresholding, **task.options)
    return head, svm.predict(head, task.tests, thresholding=thresholding)


def _logistic(task: Task, *, weights: np.ndarray | None = None, adjustment: np.ndarray | None = None) -> Fitted:
    each = None if weights is None else weights[task.labels]
    head = logistic.fit(task.features, task.labels, weights=each, adjustment=adjustment, **task.options)
    return head, logistic.predict(head, task.tests)


def _thresholding(task: Task) -> Fitted:
    head = logistic.fit(task.features, task.labels, calibrate=True, **task.options)
    shares = rebalance.threshold(logistic.probabilities(head, task.tests), head.counts, smoothing=1.0)
    return head, head.classes[shares.argmax(axis=1)]


def _logit_adjustment(task: Task) -> Fitted:
    head = logistic.fit(task.features, task.labels, **task.options)
    return head, head.classes[rebalance.adjust(logistic.logits(head, task.tests), head.counts).argmax(axis=1)]


def _tau_normalised(task: Task, fit: Callable[..., Any]) -> Fitted:
    head = fit(task.features, task.labels, **task.options)
    return head, head.classes[np.argmax(np.asarray(task.tests) @ rebalance.tau_normalise(head.coef).T, axis=1)]


def _ldam(task: Task) -> Fitted:
    head = ldam.fit(task.features, task.labels, num_classes=task.options["num_classes"])
    return head, ldam.predict(head, task.tests)


def _pseudo(task: Task) -> Fitted:
    if task.pool is None:
        raise ValueError("pseudo-labels need the unlabelled pool: use experiments.heads")
    head, _ = pseudo.fit(task.features, task.labels, task.pool, **task.options)
    return head, logistic.predict(head, task.tests)


HEADS: dict[str, Callable[[Task], Fitted]] = {
    "svm": _svm,
    "svm+thresholding": lambda task: _svm(task, thresholding=True),
    "svm+tau_normalised": lambda task: _tau_normalised(task, svm.fit),
    "logistic": _logistic,
    "logistic+thresholding": _thresholding,
    "logistic+logit_adjustment": _logit_adjustment,
    "logistic+balanced_softmax": lambda task: _logistic(task, adjustment=rebalance.adjustment(task.counts)),
    "logistic+effective_weights": lambda task: _logistic(task, weights=rebalance.effective_weights(task.counts, beta=0.9)),
    "logistic+crt": lambda task: _logistic(task, weights=rebalance.sampling_weights(task.counts)),
    "logistic+square_root": lambda task: _logistic(task, weights=rebalance.sampling_weights(task.counts, power=0.5)),
    "logistic+tau_normalised": lambda task: _tau_normalised(task, logistic.fit),
    "ldam": _ldam,
    "pseudo": _pseudo,
}
