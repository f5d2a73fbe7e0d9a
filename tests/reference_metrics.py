"""Plain twins of `balal.metrics`, `balal.imbalance` and `balal.random_sampling`: obvious code in
Python and float64 NumPy."""

import math
from fractions import Fraction

import numpy as np


def class_counts(labels, num_classes):
    return np.array([sum(1 for label in labels if label == c) for c in range(num_classes)])


def imbalance_ratio(counts):
    mean = sum(counts) / len(counts)
    return math.sqrt(sum((count - mean) ** 2 for count in counts) / len(counts)) / mean


def entropy(counts):
    return sum(
        -count / sum(counts) * math.log(count / sum(counts)) for count in counts if count > 0
    )


def max_over_min(counts):
    return max(counts) / min(counts) if min(counts) > 0 else math.inf


def confusion(labels, predicted, num_classes):
    table = np.zeros((num_classes, num_classes), int)
    for label, guess in zip(labels, predicted, strict=True):
        if 0 <= label < num_classes and 0 <= guess < num_classes:
            table[label, guess] += 1
    return table


def balanced_accuracy(labels, predicted, num_classes):
    recalls = []
    for c in range(num_classes):
        answers = [guess for label, guess in zip(labels, predicted, strict=True) if label == c]
        if answers:
            recalls.append(answers.count(c) / len(answers))
    return sum(recalls) / len(recalls)


def macro_f1(labels, predicted, num_classes):
    pairs = [(label, guess) for label, guess in zip(labels, predicted, strict=True) if label >= 0]
    scores = []
    for c in range(num_classes):
        hits = sum(1 for label, guess in pairs if label == c and guess == c)
        false = sum(1 for label, guess in pairs if label != c and guess == c)
        missed = sum(1 for label, guess in pairs if label == c and guess != c)
        if hits + missed:
            scores.append(2 * hits / (2 * hits + false + missed))
    return sum(scores) / len(scores)


def area_under_curve(budgets, accuracies):
    steps = zip(budgets[:-1], budgets[1:], accuracies[:-1], accuracies[1:], strict=True)
    return sum((right - left) * (low + high) / 2 for left, right, low, high in steps) / (
        budgets[-1] - budgets[0]
    )


def exponential(num_classes, largest, rho):
    return [int(largest * rho ** (-c / (num_classes - 1))) for c in range(num_classes)]


def subset_of_rows(numbers, labels, counts):
    """Of each class the rows with the smallest numbers, ties to the lowest row."""
    rows = []
    for c, count in enumerate(counts):
        rows += sorted(
            (row for row in range(len(labels)) if labels[row] == c), key=lambda row: numbers[row]
        )[:count]
    return sorted(rows)


def expected_classes_found(sizes, budget):
    pool = sum(sizes)
    return float(
        sum(1 - Fraction(math.comb(pool - size, budget), math.comb(pool, budget)) for size in sizes)
    )


def expected_square_ratio(sizes, budget):
    """`E[ir^2]` from `E[k_c^2] = b n_c/N + b (b - 1) n_c (n_c - 1) / (N (N - 1))`, in fractions."""
    pool, classes = sum(sizes), len(sizes)
    square = Fraction(0)
    for size in sizes:
        pairs = Fraction(budget * (budget - 1) * size * (size - 1), max(pool * (pool - 1), 1))
        square += (Fraction(budget * size, pool) + pairs) / classes
    return float(square * classes**2 / budget**2 - 1)


def labels_until(size, pool, m, probability):
    for budget in range(pool + 1):
        fewer = sum(
            math.comb(size, k) * math.comb(pool - size, budget - k)
            for k in range(min(m, budget + 1))
        )
        if 1 - Fraction(fewer, math.comb(pool, budget)) >= probability:
            return budget
    raise AssertionError("the whole pool holds the whole class")
