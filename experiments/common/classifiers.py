"""Every head with every rule against imbalance that it supports, under names such as `svm` and
`logistic+balanced_softmax`.

`finetune` trains the whole source network on the images instead, and `auto` is the SVM or
fine-tuning, whichever cross-validation prefers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from balal.extras import Extra
from balal.heads import logistic, model_selection, pseudo_labels, rebalance, svm

with Extra("experiments"):
    from balal.heads import ldam


# The heads on features that labels are judged with where methods are compared.
COMPARED = ("svm", "logistic", "logistic+logit_adjustment", "logistic+balanced_softmax")


@dataclass(frozen=True)
class Task:
    """A labelled set and everything else that a head may need.

    Attributes:
      features: [B, D], of the labelled set.
      labels: int [B].
      pool: the features of the rest of the pool, which only `pseudo` looks at.
      tests: the features of the test set.
      options: further arguments of the heads' `fit`.
      network: the source model with the images (`networks.Network`); None: only features.
      rows: the rows of the labelled set among those images; None: only features.
    """

    features: np.ndarray
    labels: np.ndarray
    pool: np.ndarray
    tests: np.ndarray
    options: dict[str, Any]
    network: Any = None
    rows: np.ndarray | None = None

    @property
    def counts(self) -> np.ndarray:
        return rebalance.counts_of(self.labels, num_classes=self.options["num_classes"])


@dataclass(frozen=True)
class Fitted:
    """A head, and the classes that it predicts for the test set.

    Attributes:
      head: the fitted model.
      predicted: int [M], of the test set.
      chosen: the head's name, where there was a choice.
      accuracies: of all the heads to choose from, in cross-validation on the labelled set.
    """

    head: Any
    predicted: np.ndarray
    chosen: str | None = None
    accuracies: dict[str, float] | None = None


def fit(name: str, task: Task) -> Fitted:
    """The head of that name, fitted, with its predictions."""
    return HEADS[name](task)


def rules(head: str) -> list[str]:
    """The rules against imbalance that a head supports, `none` first.

    >>> rules("svm")
    ['none', 'thresholding', 'tau_normalised']
    """
    return [
        "none",
        *(
            rule
            for name, _, rule in (name.partition("+") for name in HEADS)
            if name == head and rule
        ),
    ]


def _svm(task: Task, *, thresholding: bool = False) -> Fitted:
    head = svm.fit(task.features, task.labels, calibrate=thresholding, **task.options)
    return Fitted(head, svm.predict(head, task.tests, thresholding=thresholding))


def _logistic(
    task: Task, *, weights: np.ndarray | None = None, adjustment: np.ndarray | None = None
) -> Fitted:
    each = None if weights is None else weights[task.labels]
    # A rule treats all classes alike, and so must the choice of C.
    balanced = weights is not None or adjustment is not None
    head = logistic.fit(
        task.features,
        task.labels,
        weights=each,
        adjustment=adjustment,
        balanced=balanced,
        **task.options,
    )
    return Fitted(head, logistic.predict(head, task.tests))


def _thresholding(task: Task) -> Fitted:
    head = logistic.fit(task.features, task.labels, calibrate=True, **task.options)
    shares = rebalance.threshold(
        logistic.probabilities(head, task.tests), head.counts, smoothing=1.0
    )
    return Fitted(head, head.classes[shares.argmax(axis=1)])


def _logit_adjustment(task: Task) -> Fitted:
    head = logistic.fit(task.features, task.labels, **task.options)
    return Fitted(
        head,
        head.classes[
            rebalance.adjust(logistic.logits(head, task.tests), head.counts).argmax(axis=1)
        ],
    )


def _tau_normalised(task: Task, fit: Callable[..., Any]) -> Fitted:
    head = fit(task.features, task.labels, **task.options)
    return Fitted(
        head,
        head.classes[
            np.argmax(np.asarray(task.tests) @ rebalance.tau_normalise(head.coef).T, axis=1)
        ],
    )


def _ldam(task: Task) -> Fitted:
    head = ldam.fit(task.features, task.labels, num_classes=task.options["num_classes"])
    return Fitted(head, ldam.predict(head, task.tests))


def _pseudo(task: Task) -> Fitted:
    head, _ = pseudo_labels.fit(task.features, task.labels, task.pool, **task.options)
    return Fitted(head, logistic.predict(head, task.tests))


def _finetuned(task: Task, **rules: np.ndarray) -> Fitted:
    fit, network = _tuning(task, **rules)
    head = fit(np.arange(len(task.labels)))
    return Fitted(head, network.predict(head))


def _tuning(task: Task, **rules: np.ndarray) -> tuple[Callable[[np.ndarray], Any], Any]:
    """A function that fine-tunes the network on part of the labelled set, and the network."""
    network, rows = task.network, task.rows
    if network is None or rows is None:
        raise ValueError("fine-tuning needs the images themselves: give --data_dir")
    options = dict(num_classes=task.options["num_classes"], seed=task.options["seed"], **rules)
    return lambda part: network.fit(rows[part], task.labels[part], **options), network


def _auto(task: Task) -> Fitted:
    fit, network = _tuning(task)

    def transfer(part: np.ndarray, held: np.ndarray) -> np.ndarray:
        return svm.predict(
            svm.fit(task.features[part], task.labels[part], **task.options), task.features[held]
        )

    def finetune(part: np.ndarray, held: np.ndarray) -> np.ndarray:
        return network.predict(fit(part), task.rows[held])

    folds, seed = task.options["folds"], task.options["seed"]
    found = model_selection.choose(
        dict(svm=transfer, finetune=finetune), task.labels, folds=folds, seed=seed
    )
    return replace(HEADS[found.name](task), chosen=found.name, accuracies=found.accuracies)


HEADS: dict[str, Callable[[Task], Fitted]] = {
    "svm": _svm,
    "svm+thresholding": lambda task: _svm(task, thresholding=True),
    "svm+tau_normalised": lambda task: _tau_normalised(task, svm.fit),
    "logistic": _logistic,
    "logistic+thresholding": _thresholding,
    "logistic+logit_adjustment": _logit_adjustment,
    "logistic+balanced_softmax": lambda task: _logistic(
        task, adjustment=rebalance.adjustment(task.counts)
    ),
    "logistic+effective_weights": lambda task: _logistic(
        task, weights=rebalance.effective_weights(task.counts, beta=0.9)
    ),
    "logistic+crt": lambda task: _logistic(task, weights=rebalance.sampling_weights(task.counts)),
    "logistic+square_root": lambda task: _logistic(
        task, weights=rebalance.sampling_weights(task.counts, power=0.5)
    ),
    "logistic+tau_normalised": lambda task: _tau_normalised(task, logistic.fit),
    "ldam": _ldam,
    "pseudo": _pseudo,
    "finetune": _finetuned,
    "finetune+balanced_softmax": lambda task: _finetuned(
        task, adjustment=rebalance.adjustment(task.counts)
    ),
    "finetune+effective_weights": lambda task: _finetuned(
        task, weights=rebalance.effective_weights(task.counts, beta=0.9)
    ),
    "auto": _auto,
}

# The heads without their rules.
PLAIN = tuple(dict.fromkeys(name.partition("+")[0] for name in HEADS))
# Those that train the network on the images.
OF_IMAGES = tuple(name for name in HEADS if name.split("+")[0] in ("finetune", "auto"))
