"""How long does it take to fit heads with cross-validation, beside scikit-learn, and are they as
good?

    python -m benchmarks.heads --quick                  500 x 128, 20 classes, 3 folds, under a
                                                        minute
    python -m benchmarks.heads                          2,000 x 1,280, 100 classes, 10 folds, seven
                                                        values of C; many minutes
    python -m benchmarks.heads --features=full.npz      a file with `pool_features`, `pool_labels`,
                                                        `test_features` and `test_labels`
    taskset -c 0 python -m benchmarks.heads             on one core, in processor time, which other
                                                        processes do not add to

Ours solves every class, fold and value of C, and the fit to all rows, in one program. scikit-learn
fits fold after fold: each value of C is timed on the first fold alone and multiplied by the number
of folds. Its SVM uses the faster of two solvers for these shapes, `dual="auto"`, at its own
tolerance, its softmax regression 1e-6: at its own, the objective of C = 100 is an eighth above the
minimum. Objectives are those of the first fold, in float64, summed over the classes; accuracies are
on its held-out rows. A row of one C is a cross-validation with that alone, from scratch; in the
last row, `all`, ours starts each value of C from the solution of the one before. Features are
divided by their norms.
"""

import warnings
from typing import Any

import numpy as np
from absl import app, flags

from balal.extras import Extra
from balal.heads import fitting, logistic, svm
from benchmarks import balancing, common

with Extra("experiments"):
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

FLAGS = flags.FLAGS
flags.DEFINE_bool("quick", False, "Small sizes.")
flags.DEFINE_integer("labelled", None, "Labelled rows (default: 2,000, quick 500).", lower_bound=20)
flags.DEFINE_integer("folds", None, "Folds (default: 10, quick 3).", lower_bound=2)
flags.DEFINE_list(
    "C", ["0.01", "0.1", "1", "10", "100", "1000", "10000"], "Values of C of the SVM."
)
flags.DEFINE_list("C_logistic", ["0.1", "1", "10", "100"], "Values of C of the softmax regression.")
flags.DEFINE_list("only", ["svm", "logistic"], "Heads to time.")


def svm_objective(
    coef: np.ndarray, intercept: np.ndarray, rows: np.ndarray, answers: np.ndarray, C: float
) -> float:
    """Of all classes together."""
    signs = np.where(answers[:, None] == np.unique(answers), 1, -1)
    short = np.maximum(1 - signs * (rows @ coef.T + intercept), 0)
    return float(0.5 * np.sum(coef**2) + 0.5 * np.sum(intercept**2) + C * np.sum(short**2))


def logistic_objective(
    coef: np.ndarray, intercept: np.ndarray, rows: np.ndarray, answers: np.ndarray, C: float
) -> float:
    logits = rows @ coef.T + intercept
    own = logits[np.arange(len(answers)), np.searchsorted(np.unique(answers), answers)]
    return float(0.5 * np.sum(coef**2) + C * np.sum(np.logaddexp.reduce(logits, axis=1) - own))


def compare(
    name: str,
    head: Any,
    machine: Any,
    objective: Any,
    rows: np.ndarray,
    labels: np.ndarray,
    values: list[float],
    folds: int,
):
    """One row for each value of C, and the sum."""
    num_classes, fold = int(labels.max()) + 1, fitting.folds_of(len(labels), folds, 0)
    kept = fold != 0

    def ours(C: float | list[float]) -> Any:
        return head.fit(rows, labels, num_classes=num_classes, C=C, folds=folds, calibrate=True)

    first, _ = common.timed(lambda: ours(values))
    seconds, fitted = common.timed(lambda: ours(values), FLAGS.repeats)
    ours(values[0])  # one value of C is another shape
    table, total = [], 0.0
    for value in values:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs, found = common.timed(
                lambda value=value: machine(value).fit(rows[kept], labels[kept])
            )
        total += folds * theirs
        single, _ = common.timed(lambda value=value: ours(value))
        # The same fold as a fit of its own: what the program solves for it, without taking it out
        # of there.
        alone = head.fit(rows[kept], labels[kept], num_classes=num_classes, C=value)
        own, other = (
            objective(each, free, rows[kept], labels[kept], value)
            for each, free in ((alone.coef, alone.intercept), (found.coef_, found.intercept_))
        )
        right = [
            np.mean(predicted == labels[~kept])
            for predicted in (head.predict(alone, rows[~kept]), found.predict(rows[~kept]))
        ]
        table.append(
            {
                "C": f"{value:g}",
                "scikit-learn, s": folds * theirs,
                "ours, s": single,
                "times ours": folds * theirs / single,
                "objective, ours / its - 1": f"{own / other - 1:+.1e}",
                "held-out accuracy, ours - its, points": f"{100 * (right[0] - right[1]):+.2f}",
                "converged": str(alone.converged),
            }
        )
    note = f"first call {first:.1f} s, so compiling {max(first - seconds, 0):.1f} s"
    table.append(
        {
            "C": "all",
            "scikit-learn, s": total,
            "ours, s": seconds,
            "times ours": total / seconds,
            "objective, ours / its - 1": note,
        }
        | {"held-out accuracy, ours - its, points": None, "converged": str(fitted.converged)}
    )
    classes = len(np.unique(labels))
    title = f"{name}, {len(rows):,} x {rows.shape[1]:,}, {classes} classes, {folds} folds"
    return common.table(title, table)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"this program takes flags only, got {argv[1:]}")
    size, folds = (
        FLAGS.labelled or (500 if FLAGS.quick else 2_000),
        FLAGS.folds or (3 if FLAGS.quick else 10),
    )
    if FLAGS.features:
        features, labels = common.loaded(FLAGS.features, "features", "labels")
    else:
        features, labels = balancing.synthetic(
            size, 128 if FLAGS.quick else 1_280, 20 if FLAGS.quick else 100
        )
    rows, labels = np.float64(features[:size]), np.asarray(labels[:size], np.int64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tables = []
    if "svm" in FLAGS.only:
        values = [float(value) for value in (FLAGS.C[1:5] if FLAGS.quick else FLAGS.C)]
        machine = lambda C: LinearSVC(C=C, dual="auto", random_state=0, max_iter=10_000)  # noqa: E731
        tables.append(
            compare("Linear SVM", svm, machine, svm_objective, rows, labels, values, folds)
        )
    if "logistic" in FLAGS.only:
        values = [
            float(value) for value in (FLAGS.C_logistic[:2] if FLAGS.quick else FLAGS.C_logistic)
        ]
        machine = lambda C: LogisticRegression(C=C, tol=1e-6, max_iter=10_000)  # noqa: E731
        tables.append(
            compare(
                "Softmax regression",
                logistic,
                machine,
                logistic_objective,
                rows,
                labels,
                values,
                folds,
            )
        )
    common.finish("heads", tables)


if __name__ == "__main__":
    app.run(main)
