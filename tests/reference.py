"""Plain NumPy twins in float64: obvious code, one pick or one row at a time."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
from scipy import optimize


def assert_level(found, expected, values, *, error=0.0):
    """Different rows, which may be others than the twin's only where float32 cannot tell: all but
    level by exact values, `error` apart."""
    assert len(set(map(int, found))) == len(found) == len(expected)
    np.testing.assert_allclose(
        np.asarray(values)[list(found)], np.asarray(values)[list(expected)], rtol=1e-5, atol=error
    )


def scores(logits):
    """Entropy, margin and least confidence from softmax probabilities, and the first of the largest
    logits."""
    logits = np.asarray(logits, np.float64)
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    logs = np.log(np.where(probs > 0, probs, 1))
    ranked = np.sort(np.concatenate([probs, np.zeros((len(probs), 1))], axis=1), axis=1)[:, ::-1]
    return dict(
        entropy=-(probs * logs).sum(axis=1),
        margin=1 - (ranked[:, 0] - ranked[:, 1]),
        least_confidence=1 - ranked[:, 0],
        predicted=logits.argmax(axis=1),
    )


def mixture(logits):
    """The log of the mean prediction of an ensemble, [N, K] from [N, M, K]."""
    members = np.exp(logits - logits.max(axis=-1, keepdims=True))
    members /= members.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(members.mean(axis=1))


def diversify(values, predicted, budget, candidates):
    """Classes take turns; within a round the smallest value first."""
    queues = {}
    for row in sorted(np.flatnonzero(candidates), key=lambda row: (values[row], row)):
        queues.setdefault(predicted[row], []).append(row)
    picks = []
    while any(queues.values()):
        heads = [queue.pop(0) for queue in queues.values() if queue]
        picks += sorted(heads, key=lambda row: (values[row], row))
    return [*picks, *[-1] * budget][:budget]


def take_turns(groups):
    """Groups take turns in rounds, the smallest first, then the lowest id."""
    queues = {}
    for place, group in enumerate(groups):
        queues.setdefault(group, []).append(place)
    sizes = {group: len(queue) for group, queue in queues.items()}
    order = []
    while any(queues.values()):
        for group in sorted(queues, key=lambda group: (sizes[group], group)):
            order += [queues[group].pop(0)] if queues[group] else []
    return order


def cluster_margin(margin, clusters, budget, candidates, *, margin_set):
    """Clusters take turns among the rows with the smallest margins."""
    size = min(round(margin_set * budget), int(candidates.sum()))
    rows = ordered(margin, size, candidates)
    return [rows[place] for place in take_turns([clusters[row] for row in rows])][:budget]


def bald(probs):
    """Entropy of the mean prediction minus the mean entropy, [N] from [N, M, K]."""

    def entropy(p):
        return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1)

    return entropy(probs.mean(axis=1)) - entropy(probs).mean(axis=1)


def variation_ratio(probs):
    """The share of members outvoted, [N] from [N, M, K]."""
    votes = probs.argmax(axis=-1)
    return np.array([1 - np.bincount(row).max() / len(row) for row in votes])


def tail_first(values, predicted, labels, budget, num_classes, *, start=(), candidates):
    """The most uncertain of the rows predicted as the known class with the fewest labels; each
    answer before the next pick."""
    free, told, picks = candidates.copy(), [labels[row] for row in start], []
    free[list(start)] = False
    for _ in range(budget):
        counts = np.bincount(np.array(told, int), minlength=num_classes)
        offered = [c for c in range(num_classes) if counts[c] and (free & (predicted == c)).any()]
        wanted = min(offered, key=lambda c: (counts[c], c), default=None)
        among = free if wanted is None else free & (predicted == wanted)
        picks.append(argmax(values, among))
        free[picks[-1]] = False
        told.append(labels[picks[-1]])
    return picks


def k_center(features, budget, first=None, labelled=(), candidates=None):
    """Greedy k-center; returns picks and radii."""
    features = np.asarray(features, np.float64)
    candidates = np.ones(len(features), bool) if candidates is None else np.asarray(candidates)
    nearest = np.full(len(features), np.inf)
    for row in labelled:
        nearest = np.minimum(nearest, np.linalg.norm(features - features[row], axis=1))
    left = candidates.copy()
    left[list(labelled)] = False
    picks, radii = [], []
    for _ in range(budget):
        if not left.any():
            picks, radii = [*picks, -1], [*radii, 0.0]
            continue
        row = (
            first
            if first is not None and not picks
            else int(np.argmax(np.where(left, nearest, -1)))
        )
        left[row] = False
        nearest = np.minimum(nearest, np.linalg.norm(features - features[row], axis=1))
        picks.append(row)
        radii.append(np.where(candidates, nearest, 0).max())
    return picks, radii


def represented(counts, m, at_mean="nowhere", known_classes="found"):
    """Under- and over-represented classes by exact fractions."""
    known = [c for c, count in enumerate(counts) if count > 0 or known_classes == "all"]
    mean = Fraction(int(m), len(known)) if known else Fraction(0)
    under = [c for c in known if counts[c] < mean or (at_mean == "ur" and counts[c] == mean)]
    over = [c for c in known if counts[c] > mean or (at_mean == "or" and counts[c] == mean)]
    return under, over


def switches(counts, m, left, **options):
    """Eq. 8 by exact fractions."""
    under, over = represented(counts, m, **options)
    if not under or not over:
        return False
    mean_over = Fraction(sum(int(counts[c]) for c in over), len(over))
    mean_under = Fraction(sum(int(counts[c]) for c in under), len(under))
    return left <= len(under) * (mean_over - mean_under)


def choice_ratio(features, means, wanted, over, denominator):
    """Eq. 9's ratio of every row."""
    features = np.asarray(features, np.float64)
    numerator = np.linalg.norm(features - means[wanted], axis=1)
    if denominator == "none" or not over:
        return numerator
    distances = np.stack([np.linalg.norm(features - means[c], axis=1) for c in over])
    bottom = {"min": np.min, "max": np.max, "mean": np.mean}[denominator](distances, axis=0)
    return np.where(bottom > 0, numerator / np.where(bottom > 0, bottom, 1), np.inf)


def balanced(
    first,
    features,
    labels,
    budget,
    num_classes,
    *,
    start=(),
    candidates=None,
    denominator="min",
    patience=3,
    latch=True,
    ties="lowest",
    at_mean="nowhere",
    known_classes="found",
):
    """A whole balancing simulation: `first` is the order of the first strategy. Returns picks,
    wanted classes, switch."""
    features = np.asarray(features, np.float64)
    free = np.ones(len(features), bool) if candidates is None else np.array(candidates)
    free[list(start)] = False
    rows, picks, hopes, switched_at = list(start), [], [], -1
    misses = np.zeros(num_classes, int)
    total = len(start) + budget
    for _ in range(budget):
        answers = labels[rows].astype(int) if rows else np.zeros(0, int)
        counts = np.bincount(answers, minlength=num_classes)
        rule = dict(at_mean=at_mean, known_classes=known_classes)
        now = switches(counts, len(rows), total - len(rows), **rule) or (latch and switched_at >= 0)
        wanted = -1
        if now:
            switched_at = len(rows) if switched_at < 0 else switched_at
            found = [c for c in range(num_classes) if counts[c]]
            level = misses // patience if patience else misses * 0
            tie = {c: (answers.tolist().index(c) if ties == "first_found" else 0) for c in found}
            wanted = min(found, key=lambda c: (level[c], counts[c], tie[c], c))
            means = {c: features[rows][answers == c].mean(axis=0) for c in found}
            _, over = represented(counts, len(rows), **rule)
            ratio = choice_ratio(features, means, wanted, over, denominator)
            best = ratio[free].min()
            pick = int(np.flatnonzero(free & (ratio <= best * (1 + 1e-12)))[0])
            misses[wanted] = 0 if labels[pick] == wanted else misses[wanted] + 1
        else:
            pick = next(row for row in first if row >= 0 and free[row])
        free[pick] = False
        rows.append(pick)
        picks.append(pick)
        hopes.append(wanted)
    return picks, hopes, switched_at


def misses(labels, wanted, num_classes):
    """How often in a row each class was wanted and another one came."""
    missed = [0] * num_classes
    for label, hope in zip(labels, wanted, strict=True):
        if hope >= 0 and label >= 0:
            missed[hope] = 0 if label == hope else missed[hope] + 1
    return missed


def wanted_class(counts, missed, rank, patience):
    """The known class with the fewest labels, behind the others where it was missed too often; -1
    where none is known."""
    known = [c for c in range(len(counts)) if counts[c]]
    level = [miss // patience if patience else 0 for miss in missed]
    return min(known, key=lambda c: (level[c], counts[c], rank[c], c), default=-1)


def argmax(values, candidates):
    """The largest candidate, the lowest row of equals; -1 without candidates."""
    return max(np.flatnonzero(candidates), key=lambda row: (values[row], -row), default=-1)


def ordered(values, budget, candidates):
    """Rows by value, then by index."""
    rows = sorted(np.flatnonzero(candidates), key=lambda row: (values[row], row))
    return [*rows, *[-1] * budget][:budget]


def squared_distances(features, point):
    """Of every row to one point."""
    return np.square(np.float64(features) - np.float64(point)).sum(axis=1)


def middle(features, candidates):
    """The mean of up to 1,024 rows spread over the pool, the first candidate in place of those that
    are none."""
    rows = np.linspace(0, len(features) - 1, min(1024, len(features))).astype(int)
    rows = np.where(candidates[rows], rows, np.argmax(candidates))
    return np.float64(features)[rows].mean(axis=0)


def centred(features, candidates):
    """The rows seen from the mean of the candidates."""
    return np.float64(features) - np.float64(features)[candidates].mean(axis=0)


def nearest(points, k, candidates):
    """The k nearest candidates of every row, itself left out, by squared distance."""
    distances = np.square(points[:, None, :] - points[None, :, :]).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    distances[:, ~candidates] = np.inf
    return [
        [other for other in np.argsort(row, kind="stable")[:k] if row[other] < np.inf]
        for row in distances
    ]


def relative_typicality(points, k, candidates):
    """Mean distance from the neighbours of every row to theirs, over its own to them; 1 without
    neighbours and for copies."""
    near = nearest(points, k, candidates)
    own = np.array(
        [
            np.linalg.norm(points[rows] - points[row], axis=1).mean() if rows else 0
            for row, rows in enumerate(near)
        ]
    )
    return np.array(
        [own[rows].mean() / own[row] if own[row] > 0 else 1 for row, rows in enumerate(near)]
    )


def typicality(points, k, candidates):
    """One over the mean distance from every row to its neighbours; 0 without any."""
    return np.array(
        [
            1 / np.linalg.norm(points[rows] - points[row], axis=1).mean() if rows else 0
            for row, rows in enumerate(nearest(points, k, candidates))
        ]
    )


def directions(features, candidates):
    """Unit rows of the features, centred by the mean of the candidates."""
    points = centred(features, candidates)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def k_means(points, centers, candidates, *, rounds):
    """Centres [k, D], the nearest one of every row, and the inertia of the candidates; lone centres
    go to the farthest rows."""

    def assign():
        table = ((points[:, None] - centers[None]) ** 2).sum(axis=2)
        return table.argmin(axis=1), table.min(axis=1)

    centers = centers.copy()
    for _ in range(rounds):
        assigned, distances = assign()
        lone = [c for c in range(len(centers)) if not (candidates & (assigned == c)).any()]
        farthest = np.argsort(np.where(candidates, -distances, np.inf), kind="stable")
        moved = [
            points[candidates & (assigned == c)].mean(axis=0)
            if c not in lone
            else points[farthest[lone.index(c)]]
            for c in range(len(centers))
        ]
        if np.array_equal(moved, centers):
            break
        centers = np.array(moved)
    assigned, distances = assign()
    return centers, assigned, distances[candidates].sum()


def k_means_plus_plus(points, clocks, candidates):
    """A row from each line of `clocks` [k, N], waiting times that are shortened in proportion to
    the squared distance from the rows before: the first to ring."""
    nearest, rows = candidates.astype(float), []
    for waiting in clocks:
        rows.append(int(argmax(nearest / waiting, candidates)))
        distances = squared_distances(points, points[rows[-1]])
        nearest = np.minimum(nearest, distances) if len(rows) > 1 else distances
    return rows


def gradients(features, logits):
    """Gradients of the cross-entropy in the weights of the last layer, flat: [N, K D], for the
    predicted classes as labels."""
    errors = np.exp(logits - logits.max(axis=1, keepdims=True))
    errors /= errors.sum(axis=1, keepdims=True)
    errors[np.arange(len(logits)), logits.argmax(axis=1)] -= 1
    return (errors[:, :, None] * features[:, None, :]).reshape(len(features), -1)


def far_gradients(features, logits, budget, candidates, *, clocks=None, labelled=()):
    """The largest gradient, then the farthest from those before it, or with waiting times `clocks`
    [b, N], shortened in proportion to the squared distances, the first to ring."""
    points, picks, left = gradients(features, logits), [], candidates.copy()
    nearest = squared_distances(points, 0)
    left[list(labelled)] = False
    for number, row in enumerate(labelled):
        distances = squared_distances(points, points[row])
        nearest = np.minimum(nearest, distances) if number else distances
    for number in range(budget):
        begins = number == 0 and not len(labelled)
        values = nearest if clocks is None or begins else nearest / clocks[number]
        row = int(argmax(values, left))
        distances = squared_distances(points, points[row])
        nearest = distances if begins else np.minimum(nearest, distances)
        left[row] = False
        picks.append(row)
    return picks


def boundary_distances(logits, weights):
    """From the boundary of every class, [N, K]; of the predicted class, from the nearest one."""
    table = np.full(logits.shape, np.inf)
    for row, values in enumerate(logits):
        top = values.argmax()
        for c in set(range(len(values))) - {top}:
            table[row, c] = (values[top] - values[c]) / np.linalg.norm(weights[top] - weights[c])
        table[row, top] = table[row].min()
    return table


def boundaries_in_turn(distances, budget):
    """BASE: each class in turn takes its share of the rows nearest to its boundary; the first take
    the rest, one each."""
    num_classes, picks = distances.shape[1], []
    for c in range(num_classes):
        left = [row for row in np.argsort(distances[:, c], kind="stable") if row not in picks]
        picks += left[: budget // num_classes + (c < budget % num_classes)]
    return [int(row) for row in picks]


def typicality_ranks(features, candidates):
    """The share of the candidates that are at most as typical of their three nearest neighbours as
    every row."""
    typical = np.round(relative_typicality(directions(features, candidates), 3, candidates), 3)
    return np.array([np.mean(typical[candidates] <= value) for value in typical])


def deficits(counts, budget, target=None, known=None):
    """What each known class is short of its share of all labels, by exact fractions."""
    target = [1] * len(counts) if target is None else target
    target = [Fraction(w) if known is None or known[c] else 0 for c, w in enumerate(target)]
    labels, total = int(sum(counts)) + budget, sum(target) or 1
    return np.array(
        [float(max(w / total * labels - int(n), 0)) for w, n in zip(target, counts, strict=True)]
    )


def cost_of_batch(values, probs, deficits, weight, rows):
    """What a class-balanced batch costs."""
    rows = list(rows)
    missing = deficits - np.float64(probs)[rows].sum(axis=0)
    return np.float64(values)[rows].sum() + weight * np.abs(missing).sum()


def best_batch(values, probs, deficits, budget, weight):
    """The lowest cost of a class-balanced batch and that with rows chosen in part, by a solver of
    mixed-integer programs: (whole, in part)."""
    num_rows, num_classes = probs.shape
    one = np.eye(num_classes)
    # Variables: the choice of each row, and the absolute difference of each class.
    constraints = [
        optimize.LinearConstraint(np.block([[-probs.T, -one]]), ub=-deficits),
        optimize.LinearConstraint(np.block([[probs.T, -one]]), ub=deficits),
        optimize.LinearConstraint(np.r_[np.ones(num_rows), np.zeros(num_classes)], budget, budget),
    ]
    bounds = optimize.Bounds(0, np.r_[np.ones(num_rows), np.full(num_classes, np.inf)])
    costs = np.r_[values, np.full(num_classes, weight)]
    whole = np.r_[np.ones(num_rows), np.zeros(num_classes)]
    return tuple(
        optimize.milp(
            costs,
            constraints=constraints,
            bounds=bounds,
            integrality=integrality,
            options=dict(mip_rel_gap=0),
        ).fun
        for integrality in (whole, 0 * whole)
    )


def balanced_k_center(features, probs, deficits, budget, weight, labelled, candidates, relative):
    """Greedy k-center with expected class counts; the weight in median distances if relative."""
    features, probs = np.float64(features), np.float64(probs)
    nearest = np.full(len(features), np.inf)
    for row in labelled:
        nearest = np.minimum(nearest, np.linalg.norm(features - features[row], axis=1))
    left, missing = candidates.copy(), deficits.copy()
    left[list(labelled)] = False
    picks, unit = [], None
    for _ in range(min(budget, int(left.sum()))):
        distance = np.where(np.isinf(nearest), 0, nearest)
        if unit is None and len(labelled) + len(picks):
            some = np.sort(nearest[left])
            unit = some[(len(some) - 1) // 2] or some[-1] or 1
        scale = weight * ((unit or 1) if relative else 1)
        row = argmax(distance - scale * np.abs(missing - probs).sum(axis=1), left)
        picks.append(row)
        left[row], missing = False, missing - probs[row]
        nearest = np.minimum(nearest, np.linalg.norm(features - features[row], axis=1))
    return picks


def posterior(
    features, rows, labels, num_classes, *, noise=0.1, scale=1.0, candidates=None, landmarks=None
):
    """Mean [N, C] and variance [N] of the Gaussian process by one solve; with landmarks not those
    of the labelled rows."""
    candidates = np.ones(len(features), bool) if candidates is None else candidates
    units = directions(features, candidates)
    bandwidth = 1 - np.square(units[candidates].mean(axis=0)).sum()
    cosines = units @ units.T
    kernel = np.mean(
        [np.exp((cosines - 1) / (bandwidth * s)) for s in np.atleast_1d(scale)], axis=0
    )
    kernel = kernel if landmarks is None else through_landmarks(kernel, candidates, landmarks)
    among = kernel[np.ix_(rows, rows)] + noise * np.eye(len(rows))
    weights = np.linalg.solve(among, kernel[rows])
    return weights.T @ np.eye(num_classes)[labels], 1 - np.sum(weights * kernel[rows], axis=0)


def posterior_covariance(features, rows, *, noise=0.1):
    """Covariance [N, N] of the Gaussian process, given which rows are labelled."""
    units = directions(features, np.ones(len(features), bool))
    kernel = np.exp((units @ units.T - 1) / (1 - np.square(units.mean(axis=0)).sum()))
    among = kernel[np.ix_(rows, rows)] + noise * np.eye(len(rows))
    return kernel - kernel[:, rows] @ np.linalg.solve(among, kernel[rows])


def through_landmarks(kernel, candidates, number):
    """The kernel as far as some landmarks explain it, and whole on the diagonal: each of them is
    the candidate of which most is unexplained."""
    left = kernel.copy()
    # Before the first one all are level, and the lowest row is taken.
    np.fill_diagonal(left, 1)
    for _ in range(number):
        row = np.argmax(np.where(candidates, np.diag(left), -1))
        left = left - np.outer(left[row], left[row]) / (left[row, row] + 1e-4)
    return kernel - left + np.diag(np.diag(left))


def explain(mean, sharpness):
    """Class probabilities [N, C] and the unexplained mass [N] of the class means."""
    probabilities, unexplained = np.zeros_like(mean), np.zeros(len(mean))
    for row, values in enumerate(np.maximum(mean, 0)):
        explained = min(values.sum(), 1)
        unexplained[row] = 1 - explained
        if values.sum() > 0:
            probabilities[row] = values**sharpness / (values**sharpness).sum() * explained
    return probabilities, unexplained


def utility(mean, variance, worth, unseen, sharpness):
    """The worth of every row's label that is to be expected, times the variance left."""
    probabilities, unexplained = explain(mean, sharpness)
    return (probabilities @ worth + unexplained * unseen) * variance


def asked_between_looks(
    labels, budget, candidates, promising, gains, looked_at, *, first, begin, start, near
):
    """`first` in its order for the first `begin` labels, then the row with the largest gain among
    the `near` most promising of the last look at the whole pool.

    `promising` and `gains` are functions of rows and labels that were told.
    """
    count, free = len(candidates), candidates.copy()
    rows, told, picks = list(start[0]), list(start[1]), []
    free[rows] = False

    def largest(values):
        return np.isin(np.arange(count), np.argsort(-values, kind="stable")[:near])

    for _ in range(budget):
        pick = next((row for row in first if free[row]), None) if len(rows) < begin else None
        if pick is None:
            known = looked_at(len(rows))
            seen = promising(rows[:known], told[:known])
            kept = largest(seen)
            while not (kept & free).any():
                seen = np.where(kept, -np.inf, seen)
                kept = largest(seen)
            values = np.where(kept & free, gains(rows, told), -np.inf)
            pick = int(np.flatnonzero(values >= values.max() * (1 - 1e-5))[0])
        picks.append(pick)
        rows.append(pick)
        told.append(int(labels[pick]))
        free[pick] = False
    return picks


def power_of_two(number):
    """The largest that is at most a number; 0 for 0."""
    return 2 ** int(np.log2(number)) if number else 0


def posterior_0_1_picks(
    features,
    labels,
    budget,
    num_classes,
    *,
    first=(),
    begin=10,
    start=((), ()),
    candidates=None,
    sharpness=2,
    typical=0.5,
    every=16,
    near=2048,
):
    """Picks of the posterior rule of 0.1, by the largest utility; every solve anew. It looks after
    1, 2, 4, ... labels, and after every `every`."""
    candidates = np.ones(len(features), bool) if candidates is None else candidates
    preference = 1 - typical * (1 - typicality_ranks(features, candidates))

    def values(rows, told):
        known, seen = np.array(rows, int), np.array(told, int)
        mean, variance = posterior(features, known, seen, num_classes, candidates=candidates)
        worth = 1 / (np.bincount(seen, minlength=num_classes) + 1)
        among = candidates & ~np.isin(np.arange(len(features)), known)
        return np.where(among, utility(mean, variance, worth, 1, sharpness) * preference, -np.inf)

    return asked_between_looks(
        *(labels, budget, candidates, values, values),
        lambda number: number // every * every or power_of_two(number),
        first=first,
        begin=begin,
        start=start,
        near=near,
    )


def coverage_gain(covariance, variance, noise, worth, best):
    """What an answer of every row explains of the others, beyond what explains them best: [N]."""
    gained = np.zeros(len(covariance))
    for row in range(len(covariance)):
        raised = covariance[row] / (variance[row] + noise) - best
        raised[row] = 0
        gained[row] = np.sum(worth * np.maximum(raised, 0))
    return gained


def worth_of_classes(counts):
    """What a label of each class is worth, and of what no label explains: by Chao's estimate of the
    unseen classes."""
    worth = 1 / (counts + 1)
    if not counts.sum():
        return worth, 1.0
    once, twice = np.sum(counts == 1), np.sum(counts == 2)
    missing = once * (once - 1) / (2 * (twice + 1))
    share = missing / (missing + np.sum(counts > 0))
    return worth, share + (1 - share) * np.sum(counts * worth) / counts.sum()


def posterior_picks(
    features,
    labels,
    budget,
    num_classes,
    *,
    first=(),
    begin=10,
    start=((), ()),
    candidates=None,
    sharpness=2,
    typical=0.5,
    scale=(2.0, 1.0, 0.5),
    noise=0.1,
    every=64,
    near=256,
):
    """Picks of the posterior rule: the row whose answer explains most; every solve anew, every row
    standing for itself."""
    count = len(features)
    candidates = np.ones(count, bool) if candidates is None else candidates
    ranks = typicality_ranks(features, candidates)
    units = directions(features, candidates)
    bandwidth = 1 - np.square(units[candidates].mean(axis=0)).sum()
    cosines = units @ units.T
    kernel = np.mean([np.exp((cosines - 1) / (bandwidth * s)) for s in scale], axis=0)
    others = np.where(candidates[None, :] & ~np.eye(count, dtype=bool), kernel, 0)
    closest = np.sort(others, axis=1)[:, ::-1][:, :16]
    who = np.argsort(-others, axis=1, kind="stable")[:, :16]
    keep = 1 - 1 / max(num_classes, 20)

    def process(rows, told):
        known, seen = np.array(rows, int), np.array(told, int)
        among = kernel[np.ix_(known, known)] + noise * np.eye(len(known))
        weights = np.linalg.solve(among, kernel[known])
        mean = weights.T @ np.eye(num_classes)[seen]
        return mean, kernel - kernel[:, known] @ weights, np.bincount(seen, minlength=num_classes)

    def hit_rate(rows, told):
        right = tried = 0.0
        for place, (row, label) in enumerate(zip(rows, told, strict=True)):
            expected = process(rows[:place], told[:place])[0][row]
            hit = expected[label] > 1e-4 and expected[label] >= expected.max()
            right, tried = keep * right + hit, keep * tried + 1
        return right / (1 + tried)

    def seen_so_far(rows, told):
        mean, covariance, counts = process(rows, told)
        worth, unseen = worth_of_classes(counts)
        probabilities, unexplained = explain(mean, sharpness)
        left = candidates & ~np.isin(np.arange(count), rows)
        values = np.where(left, probabilities @ worth + unexplained * unseen, 0)
        rate = hit_rate(rows, told)
        trust = 1 - typical * (1 - rate) * (1 - ranks)
        return covariance, values, np.maximum(mean, 0).max(axis=1), left, rate, trust

    def promising(rows, told):
        _, worth, best, left, _, trust = seen_so_far(rows, told)
        nearby = np.maximum(closest / (1 + noise) - best[who], 0)
        values = np.sum(worth[who] * nearby, axis=1) + worth * np.maximum(1 - best, 0)
        return np.where(left, values * trust, -np.inf)

    def gains(rows, told):
        covariance, worth, best, _, rate, trust = seen_so_far(rows, told)
        own = (closest[:, 0] + (1 - closest[:, 0]) * rate) * worth * np.maximum(1 - best, 0)
        others = coverage_gain(covariance, np.diag(covariance), noise, worth, best)
        return (others + own) * trust

    def looked_at(number):
        step = min(max(power_of_two(number) // 4, 1), every)
        return number // step * step

    return asked_between_looks(
        *(labels, budget, candidates, promising, gains, looked_at),
        first=first,
        begin=begin,
        start=start,
        near=near,
    )


def imbalanced_pool(
    rows: int, size: int, classes: int, source_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, logits and labels of classes of which each is two thirds as frequent as the one
    before."""
    rng = np.random.default_rng(0)
    share = (2 / 3) ** np.arange(classes)
    labels = rng.choice(classes, rows, p=share / share.sum()).astype(np.int32)
    features = (
        2 * rng.normal(size=(classes, size))[labels] + rng.normal(size=(rows, size))
    ).astype(np.float32)
    return features, (features @ rng.normal(size=(size, source_classes))).astype(np.float32), labels


def class_orders(logits):
    """For each class the rows by margin, those with the largest probability of the class first."""
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    top = probs.max(axis=1)
    orders = []
    for label in range(logits.shape[1]):
        predicted = logits[:, label] == logits.max(axis=1)
        margin = np.where(predicted, 1 + top, probs[:, label] - top)
        orders.append(sorted(range(len(logits)), key=lambda row: (-margin[row], row)))
    return orders


def bisect_or_expand(values, waiting, free):
    """GALAXY's next place in one order, by walking along it."""
    there = [p for p in range(len(values)) if values[p] >= 0 or waiting[p] or free[p]]
    at = {place: number for number, place in enumerate(there)}
    known = [p for p in there if values[p] >= 0]
    best, cuts = None, []
    for left, right in pairwise(known):
        if values[left] == values[right]:
            continue
        gap = [p for p in there if left < p < right]
        ends = [left, *(p for p in gap if waiting[p]), right]
        parts = [[p for p in gap if begin < p < end] for begin, end in pairwise(ends)]
        widest = max(parts, key=len)
        if widest and (best is None or len(gap) < best[0]):
            best = len(gap), widest[(len(widest) - 1) // 2]
        cuts.append((at[left], at[right]))
    if best:
        return best[1]

    def distance(place):
        sides = [(left - at[place], 0) for left, _ in cuts if at[place] < left]
        sides += [(at[place] - right, 1) for _, right in cuts if at[place] > right]
        return min(sides)

    return min((p for p in there if free[p]), key=lambda place: (distance(place), place))


def nearest_to_threshold(values, waiting, free):
    """DIRECT's next place in one order: left and right of the best threshold take turns."""
    there = [p for p in range(len(values)) if values[p] >= 0 or waiting[p] or free[p]]
    weights = [0 if values[p] < 0 else 2 * values[p] - 1 for p in there]
    accuracy = [sum(weights[:j]) - sum(weights[j:]) for j in range(len(there) + 1)]
    best = int(np.argmax(accuracy))
    turns = [[best - 1 - step, best + step] for step in range(len(there))]
    places = [there[at] for turn in turns for at in turn if 0 <= at < len(there)]
    return next(place for place in places if free[place])


def shrink(ends, values, rounds, level_first):
    """DIRECT's stretch, its ends moved row by row; of two that are level, `level_first`."""
    begin, end = ends
    weights = np.where(values < 0, 0, 2 * values - 1)
    unknown = int(np.sum(values[begin : end + 1] < 0))
    left = unknown if rounds <= 1 else int(np.ceil(unknown ** (1 - 1 / rounds) - 1e-9))
    while np.sum(values[begin : end + 1] < 0) > left:
        at_begin = weights[:begin].sum() - weights[begin:].sum()
        at_end = weights[:end].sum() - weights[end:].sum()
        if at_begin < at_end or (at_begin == at_end and level_first == "begin"):
            begin += 1
        else:
            end -= 1
    return begin, end


def facility_location(similarities, budget, candidates, eta=1.0):
    """FLQMI by its definition: the row that adds most to I(A; Q), [N, Q]; picks and gains."""

    def information(rows):
        if not rows:
            return 0.0
        chosen = similarities[rows]
        return chosen.max(axis=0).sum() + eta * chosen.max(axis=1).sum()

    picks, gains = [], []
    for _ in range(budget):
        left = [row for row in np.flatnonzero(candidates) if row not in picks]
        gain = {row: information([*picks, row]) - information(picks) for row in left}
        picks.append(max(left, key=lambda row: (round(gain[row], 9), -row)))
        gains.append(gain[picks[-1]])
    return [int(row) for row in picks], gains


def similar(features, labels, budget, *, start, candidates):
    """SIMILAR's picks after a start: the queries are its rows of rare classes; None without any."""
    counts = np.bincount(labels[start])
    rare = [row for row in start if counts[labels[row]] < counts[counts > 0].mean()]
    if not rare:
        return None
    units = directions(np.asarray(features, np.float64), candidates)
    free = candidates.copy()
    free[start] = False
    return facility_location((1 + units @ units[rare].T) / 2, budget, free)[0]


def with_rows(mask, rows):
    """The mask, with some rows true as well."""
    mask = mask.copy()
    mask[list(rows)] = True
    return mask


def herding(
    points, budget, *, similarity="gaussian", radius=1.0, weights=None, labelled=(), candidates=None
):
    """Greedy coverage by the whole table of similarities, and the farthest row once all gains are
    0: rows and gains."""
    candidates = np.ones(len(points), bool) if candidates is None else candidates
    weights = np.ones(len(points)) if weights is None else np.float64(weights)
    weights = np.where(with_rows(candidates, labelled), weights, 0)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    table = distances < radius if similarity == "ball" else np.exp(-np.square(distances / radius))
    table = np.float64(table)
    centres, picks, gains = list(labelled), [], []
    for _ in range(budget):
        left = candidates & ~with_rows(np.zeros(len(points), bool), centres)
        covered = table[centres].max(axis=0, initial=0)
        gain = np.where(left, np.maximum(table - covered, 0) @ weights, -1)
        nearest = distances[centres].min(axis=0, initial=np.inf)
        gain = np.where(left & (nearest < 1e-9), 0, gain)
        if gain.max() > 0:
            picks.append(int(np.flatnonzero(gain >= (1 - 1e-5) * gain.max())[0]))
        else:
            picks.append(int(argmax(nearest, left)))
        gains.append(max(gain[picks[-1]], 0))
        centres.append(picks[-1])
    return picks, gains


def purity_radius(points, classes, *, purity, candidates):
    """The largest distance to the nearest candidate of another class that enough rows have."""
    rows = np.flatnonzero(candidates)
    apart = [
        min(
            (np.linalg.norm(points[row] - points[other]) for other in rows[classes[rows] != c]),
            default=np.inf,
        )
        for row, c in zip(rows, classes[rows], strict=True)
    ]
    return max(each for each in apart if np.mean(np.array(apart) >= each) >= purity - 1e-9)


def separation(points, labelled, *, candidates):
    """The smallest distance between labelled rows that differ, at least the lowest percentile of
    those to the nearest neighbour; 1 without such a pair."""

    def least(rows):
        distances = np.linalg.norm(points[rows][:, None] - points[rows][None], axis=2)
        return np.where(distances > 1e-9, distances, np.inf).min(axis=1, initial=np.inf)

    smallest, nearest = least(list(labelled)), np.sort(least(np.flatnonzero(candidates)))
    if smallest.min(initial=np.inf) == np.inf:
        return 1.0
    number = np.sum(nearest < np.inf)
    return max(smallest.min(), nearest[int(0.01 * (number - 1))])


def typicality_within(points, groups, k, candidates):
    """One over the mean distance to the k nearest candidates of the same group; 0 without any."""
    typical = np.zeros(len(points))
    for row in np.flatnonzero(candidates):
        same = np.flatnonzero(candidates & (groups == groups[row]))
        distances = np.sort(np.linalg.norm(points[same[same != row]] - points[row], axis=1))[:k]
        typical[row] = 1 / max(distances.mean(), 1e-5) if len(distances) else 0
    return typical


def in_turns(typical, clusters, left, budget, *, least):
    """The most typical row left of each cluster, in cycles of which each begins with the clusters
    that have the fewest labels, the largest first."""
    left, picks = left.copy(), []
    sizes = np.bincount(clusters[clusters >= 0])
    while len(picks) < budget:
        labels = np.array([np.sum((clusters == c) & ~left) for c in range(len(sizes))])
        some = [c for c in range(len(sizes)) if labels[c] < sizes[c]]
        cycle = [c for c in some if sizes[c] >= least] or some
        for c in sorted(cycle, key=lambda c: (labels[c], -sizes[c], c))[: budget - len(picks)]:
            picks.append(int(argmax(typical, left & (clusters == c))))
            left[picks[-1]] = False
    return picks


def max_herding(features, scores, candidates, labelled, budget):
    """Herding of unit rows."""
    return herding(
        directions(features, candidates), budget, labelled=labelled, candidates=candidates
    )[0]


def u_herding(features, scores, candidates, labelled, budget):
    """Herding of unit rows by their margin, with a radius that the labelled ones set."""
    points = directions(features, candidates)
    return herding(
        points,
        budget,
        radius=separation(points, labelled, candidates=candidates),
        weights=scores["margin"] if len(labelled) else None,
        labelled=labelled,
        candidates=candidates,
    )[0]


def prob_cover(features, scores, candidates, labelled, budget):
    """Balls of unit rows, in which the source model's top-1 classes are pure."""
    points = directions(features, candidates)
    radius = purity_radius(points, scores["predicted"], purity=0.95, candidates=candidates)
    return herding(
        points,
        budget,
        similarity="ball",
        radius=max(radius, 1e-4),
        labelled=labelled,
        candidates=candidates,
    )[0]


COVERAGE = dict(max_herding=max_herding, u_herding=u_herding, prob_cover=prob_cover)
