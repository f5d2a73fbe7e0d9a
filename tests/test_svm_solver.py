"""The solver of linear SVMs: padding, weights, folds, and both spaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import LinearSVC

from balal.heads import svm_primal_dual, svm_solver

STRENGTHS = np.array([0.1, 1.0, 10.0])


def problem() -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    labels = np.arange(128) % 4
    return (2 * np.eye(4, 16)[labels] + chance.normal(size=(128, 16))).astype(np.float32), labels


def solve(rows, labels, *, weights=None, fold=None) -> svm_solver.Solution:
    size = len(rows)
    weights, fold = (
        np.ones(size) if weights is None else weights,
        np.full(size, -1) if fold is None else fold,
    )
    arrays = (
        jnp.asarray(value, kind)
        for value, kind in (
            (rows, jnp.float32),
            (labels, jnp.int32),
            (weights, jnp.float32),
            (fold, jnp.int32),
        )
    )
    options = jnp.asarray(STRENGTHS, jnp.float32), jnp.float32(1e-4), jnp.int32(0)
    return jax.tree.map(
        np.asarray, svm_solver.solve(*arrays, *options, num_classes=4, num_folds=2, ladder=0)
    )


def test_a_fold_is_left_out_as_rows_of_weight_0_are():
    rows, labels = problem()
    fold = np.arange(128) % 3 - 1
    folded = solve(rows, labels, fold=fold)
    for number in (0, 1):
        alone = solve(rows, labels, weights=(fold != number).astype(float))
        margins = np.einsum("gkd,nd->gkn", alone.coef, rows) + alone.intercept[:, :, None]
        np.testing.assert_allclose(
            folded.held_out[:, :, fold == number], margins[:, :, fold == number], atol=0.05
        )
    assert np.all(folded.held_out[:, :, fold == -1] == 0)
    np.testing.assert_allclose(folded.coef, solve(rows, labels).coef, atol=0.02)
    assert folded.gap.max() <= 1e-3


def test_weight_2_is_the_row_twice_and_padding_is_nothing():
    rows, labels = problem()
    weights = np.r_[np.full(32, 2.0), np.ones(32), np.zeros(64)]
    twice = np.r_[np.arange(32), np.arange(64), np.zeros(32, int)]
    plain = solve(rows[twice], labels[twice], weights=np.r_[np.ones(96), np.zeros(32)])
    np.testing.assert_allclose(solve(rows, labels, weights=weights).coef, plain.coef, atol=0.02)


@pytest.mark.parametrize("space", [svm_primal_dual.dual, svm_primal_dual.primal])
def test_both_spaces_find_the_optimum(space, monkeypatch):
    rows, labels = problem()
    monkeypatch.setattr(svm_primal_dual, "suitable", space)
    svm_solver.solve.clear_cache()
    found = solve(rows, labels)
    svm_solver.solve.clear_cache()
    signs = np.where(labels[:, None] == np.arange(4), 1.0, -1.0)
    for C, coef, intercept in zip(
        STRENGTHS, np.float64(found.coef), np.float64(found.intercept), strict=True
    ):
        short = np.maximum(1 - signs * (rows @ coef.T + intercept), 0)
        objective = (
            0.5 * np.sum(coef**2, axis=1) + 0.5 * intercept**2 + C * np.sum(short**2, axis=0)
        )
        machine = LinearSVC(C=C, dual=True, random_state=0, tol=1e-8, max_iter=200_000).fit(
            rows, labels
        )
        short = np.maximum(1 - signs * (rows @ machine.coef_.T + machine.intercept_), 0)
        best = (
            0.5 * np.sum(machine.coef_**2, axis=1)
            + 0.5 * machine.intercept_**2
            + C * np.sum(short**2, axis=0)
        )
        np.testing.assert_allclose(objective, best, rtol=1e-3)
