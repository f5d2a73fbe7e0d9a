"""Every fault a caller can make, run as a user would: no type checker on. Prints as JSON {name:
[exception type, message, seconds]} of the faults, and what came of arrays of other kinds wherever
arrays are taken: {place: {kind: outcome}}.

Each fault is an expression; `test_check.py` says which words its message must hold.
"""

import json
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO

import balal
from balal import check, feature_cache, imbalance, metrics, random_sampling
from balal.heads import fitting, model_selection, pseudo_labels, rebalance, scaling
from balal.kernels import (
    balancing,
    boundaries,
    disagreement,
    gaussian_process,
    gradients,
    k_means,
    neighbours,
    sampling,
    switch,
    typicality,
)

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(10, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(10, 4)).astype(np.float32)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
MEMBERS = np.stack([LOGITS, LOGITS[::-1]], axis=1)
LABELS = np.arange(10) % 3
POOL = balal.pool(FEATURES, logits=LOGITS)
ENT = balal.strategy("ent")


def put(array, value, *rows):
    changed = array.copy()
    changed[list(rows)] = value
    return changed


def pool(features=FEATURES, **others):
    return balal.pool(features, **others)


def simulate(strategy=ENT, on=POOL, labels=LABELS, **changes):
    return balal.simulate(
        strategy, on, labels, **{**dict(budget=4, num_classes=3, key=KEY), **changes}
    )


def state(**changes):
    return balal.init(ENT, POOL, **{**dict(budget=4, num_classes=3, key=KEY), **changes})


def asked(size=2):
    return balal.ask(ENT, POOL, state(), size=size)


def tell(indices=None, labels=(0, 1)):
    rows, after = asked()
    return balal.tell(ENT, POOL, after, rows if indices is None else indices, labels)


def never_asked():
    return next(row for row in range(10) if row not in asked()[0].tolist())


class Unhashable(balal.Ordered):
    __hash__ = None


FAULTS = {
    # features
    "features nan": lambda: pool(put(FEATURES, np.nan, 3, 7)),
    "features inf": lambda: pool(put(FEATURES, np.inf, 3)),
    "features many nan": lambda: pool(put(FEATURES, np.nan, *range(8))),
    "features list": lambda: pool(FEATURES.tolist()),
    "features strings": lambda: pool(np.array([["a"], ["b"]])),
    "features objects": lambda: pool(np.array([[None], [1]], object)),
    "features complex": lambda: pool(FEATURES.astype(complex)),
    "features one axis": lambda: pool(FEATURES[:, 0]),
    "features no columns": lambda: pool(FEATURES[:, :0]),
    "features no rows": lambda: pool(FEATURES[:0]),
    "features constant": lambda: simulate(
        balal.strategy("core_set"), pool(np.ones((10, 3), np.float32))
    ),
    "features missing": lambda: simulate(
        balal.strategy("core_set"), balal.pool(None, logits=LOGITS)
    ),
    "nothing at all": lambda: balal.pool(None),
    # scores of the source model
    "logits nan": lambda: pool(logits=put(LOGITS, np.nan, 2)),
    "logits inf": lambda: pool(logits=put(LOGITS, np.inf, 5)),
    "logits all minus inf": lambda: pool(logits=put(LOGITS, -np.inf, 9)),
    "logits are probs": lambda: pool(logits=PROBS),
    "logits one axis": lambda: pool(logits=LOGITS[:, 0]),
    "logits no classes": lambda: pool(logits=LOGITS[:, :0]),
    "logits too few rows": lambda: pool(logits=LOGITS[:7]),
    "probs are logits": lambda: pool(probs=LOGITS),
    "probs sum": lambda: pool(probs=put(PROBS, 0.5, 1, 4)),
    "probs nan": lambda: pool(probs=put(PROBS, np.nan, 6)),
    "probs negative": lambda: pool(probs=np.array([[1.5, -0.5]] * 10)),
    "logits and probs": lambda: pool(logits=LOGITS, probs=PROBS),
    "scores nan": lambda: pool(
        scores=balal.Scores(*[jnp.full(10, jnp.nan)] * 3, jnp.zeros(10, int))
    ),
    "scores too few rows": lambda: pool(
        scores=balal.Scores(*[jnp.zeros(9)] * 3, jnp.zeros(9, int))
    ),
    "scores missing": lambda: simulate(on=pool()),
    # candidates
    "candidates indices": lambda: pool(candidates=np.array([1, 2])),
    "candidates none": lambda: pool(candidates=np.zeros(10, bool)),
    "candidates too few rows": lambda: pool(candidates=np.ones(4, bool)),
    # labels
    "labels negative": lambda: simulate(labels=put(LABELS, -1, 2, 3)),
    "labels too large": lambda: simulate(labels=put(LABELS, 3, 8)),
    "labels float": lambda: simulate(labels=LABELS.astype(float)),
    "labels one hot": lambda: simulate(labels=np.eye(3)[LABELS]),
    "labels too few": lambda: simulate(labels=LABELS[:5]),
    # budget, classes, key
    "budget above candidates": lambda: simulate(budget=11),
    "budget above those left": lambda: simulate(
        budget=9, labelled=(np.array([0, 1]), np.array([0, 1]))
    ),
    "budget above mask": lambda: simulate(on=pool(logits=LOGITS, candidates=np.arange(10) < 3)),
    "budget zero": lambda: simulate(budget=0),
    "budget negative": lambda: simulate(budget=-3),
    "budget float": lambda: simulate(budget=4.0),
    "budget bool": lambda: simulate(budget=True),
    "classes zero": lambda: simulate(num_classes=0),
    "key missing": lambda: simulate(key=None),
    "key seed": lambda: simulate(key=7),
    "key legacy": lambda: simulate(key=jax.random.PRNGKey(0)),
    "key several": lambda: simulate(key=jax.random.split(KEY, 3)),
    # a labelled start
    "start duplicate": lambda: simulate(labelled=(np.array([1, 1]), np.array([0, 0]))),
    "start out of range": lambda: simulate(labelled=(np.array([10]), np.array([0]))),
    "start negative": lambda: simulate(labelled=(np.array([-2]), np.array([0]))),
    "start label": lambda: simulate(labelled=(np.array([1]), np.array([5]))),
    "start lengths": lambda: simulate(labelled=(np.array([1, 2]), np.array([0]))),
    "start not a pair": lambda: simulate(labelled=np.array([1, 2])),
    "start count": lambda: simulate(
        labelled=balal.Labelled(jnp.array([1, -1]), jnp.array([0, -1]), jnp.int32(2))
    ),
    # ask and tell
    "size zero": lambda: asked(0),
    "size float": lambda: asked(2.0),
    "size above budget": lambda: asked(5),
    "size above left": lambda: balal.ask(ENT, POOL, asked(3)[1], size=2),
    "told twice": lambda: tell([1, 1]),
    "told never asked": lambda: tell(
        [int(row) for row in range(10) if row not in asked()[0].tolist()][:2]
    ),
    "told float rows": lambda: tell([1.0, 2.0]),
    "told lengths": lambda: tell(labels=[0]),
    "told label too large": lambda: tell(labels=[0, 3]),
    "told label negative": lambda: tell(labels=[0, -1]),
    "told float labels": lambda: tell(labels=[0.5, 1.0]),
    "another strategy": lambda: balal.ask(balal.strategy("ms"), POOL, state()),
    "shrunk classes": lambda: balal.grow(ENT, state(), 2),
    "shrunk pool": lambda: balal.ask(ENT, balal.pool(FEATURES[:1], logits=LOGITS[:1]), asked()[1]),
    "not a pool": lambda: simulate(on=FEATURES),
    # registry and options
    "unknown strategy": lambda: balal.strategy("ent_inv_dv"),
    "unknown rule": lambda: balal.strategy("ent+balanced"),
    "two rules": lambda: balal.strategy("ent+balance+balance"),
    "unknown denominator": lambda: balal.Balanced(ENT, denominator="median"),
    "unknown at_mean": lambda: balal.Balanced(ENT, at_mean="both"),
    "unknown known_classes": lambda: balal.Balanced(ENT, known_classes="some"),
    "unknown ties": lambda: balal.Balanced(ENT, ties="none"),
    "no patience": lambda: simulate(balal.Balanced(ENT, patience=0)),
    "budget times classes": lambda: switch.fits(10_000_000, 1000),
    # kernels, at trace time
    "score one axis": lambda: balal.score(jnp.zeros(3)),
    "diversify shapes": lambda: balal.diversify(jnp.zeros(3), jnp.zeros(4, int), 2),
    "diversify budget": lambda: balal.diversify(jnp.zeros(3), jnp.zeros(3, int), 4),
    "posterior one axis": lambda: gaussian_process.begin(jnp.zeros(3), capacity=1, num_classes=2),
    "posterior landmarks": lambda: gaussian_process.begin(
        jnp.zeros((3, 2)), capacity=1, num_classes=2, landmarks=0
    ),
    "posterior start": lambda: balal.Posterior(start=1.5),
    "posterior typical": lambda: balal.Posterior(typical=2),
    "prepared without features": lambda: balal.prepare(
        balal.Posterior(), balal.pool(None, logits=3 * jnp.eye(3))
    ),
    "withdrawn never asked": lambda: balal.withdraw(asked()[1], [never_asked()]),
    "withdrawn twice": lambda: balal.withdraw(asked()[1], np.asarray(asked()[0])[[0, 0]]),
    "restored but not withdrawn": lambda: balal.restore(asked()[1], asked()[0][:1]),
    "told but withdrawn": lambda: balal.tell(
        ENT, POOL, balal.withdraw(asked()[1], asked()[0][:1]), asked()[0][:1], [1]
    ),
    "budget shrunk": lambda: balal.extend(state(), budget=1),
    "budget extended in parts": lambda: balal.extend(state(), budget=20.5),
    "pool has lost rows": lambda: balal.ask(
        ENT, balal.pool(FEATURES[1:], logits=LOGITS[1:]), asked()[1]
    ),
    "map of too few rows": lambda: balal.remap(asked()[1], [0, 1], num_rows=10),
    "map out of range": lambda: balal.remap(asked()[1], np.arange(10), num_rows=9),
    "map two to one": lambda: balal.remap(asked()[1], np.arange(10) // 2, num_rows=10),
    "map loses a labelled row": lambda: balal.remap(tell(), np.full(10, -1), num_rows=9),
    "strategy cannot be hashed": lambda: simulate(Unhashable()),
    "strategy lacks a method": lambda: simulate(object()),
    "no file of a strategy": lambda: balal.strategy("nowhere.py:Mine+balance"),
    "no module of a strategy": lambda: balal.strategy("no_such_package.module:Mine"),
    "no such attribute": lambda: balal.strategy("balal.strategies:Randm"),
    "attribute is no strategy": lambda: balal.strategy("balal.strategies:names"),
    "class needs settings": lambda: balal.strategy("balal.strategies:Balanced"),
    "neighbours none": lambda: neighbours.nearest(jnp.zeros((3, 2)), 0),
    "posterior sharpness": lambda: balal.Posterior(sharpness=0.5),
    "posterior noise": lambda: balal.Posterior(noise=0),
    "posterior target": lambda: balal.Posterior(target=(1.0, -1.0)),
    "posterior target length": lambda: simulate(balal.Posterior(target=(1.0, 2.0, 1.0, 1.0))),
    "posterior first is a name": lambda: balal.Posterior("ent"),
    "budget above capacity": lambda: simulate(budget=5, capacity=4),
    "capacity in parts": lambda: simulate(budget=2, capacity=4.5),
    "budget in parts": lambda: simulate(budget=2.5, capacity=4),
    "budget of one axis": lambda: simulate(budget=jnp.array([2, 3]), capacity=4),
    "k_center nowhere": lambda: balal.k_center(jnp.zeros((3, 2)), 2),
    "k_center budget": lambda: balal.k_center(jnp.zeros((3, 2)), 4, start=0),
    "k_center one axis": lambda: balal.k_center(jnp.zeros(3), 2, start=0),
    "strategy is a name": lambda: simulate("ent"),
    "first is a name": lambda: balal.Balanced("ent"),
    "strategy is a class": lambda: simulate(balal.Ordered),
    "name is no string": lambda: balal.strategy(3),
    "unknown score": lambda: balal.strategies.Uncertainty("entropi"),
    "patience in parts": lambda: balal.Balanced(ENT, patience=2.5),
    "classes in parts": lambda: balal.grow(ENT, state(), 7.5),
    "told labels too many": lambda: tell([], [1]),
    "told negative row": lambda: tell([-1, 0]),
    "start labels too many": lambda: simulate(labelled=(np.zeros(0, int), np.array([1]))),
    "start nan": lambda: simulate(
        balal.strategy("core_set"),
        pool(put(FEATURES, np.nan, 2), candidates=np.arange(10) != 2),
        labelled=(np.array([2]), np.array([0])),
    ),
    "features huge": lambda: pool(put(FEATURES, 1e20, 4)),
    "nothing to keep": lambda: pool(scores=POOL.scores, keep_logits=True),
    "saved nowhere": lambda: balal.save(state(), "/no/such/folder/state.npz"),
    # kernels called directly, with values that only a check can see
    "score nan": lambda: balal.score(put(LOGITS, np.nan, 2)),
    "entropy inf": lambda: balal.entropy(put(LOGITS, np.inf, 4)),
    "diversify nan": lambda: balal.diversify(put(LOGITS[:, 0], np.nan, 3), LABELS, 2),
    "diversify class too large": lambda: balal.diversify(
        LOGITS[:, 0], put(LABELS, 2**31 - 1, 1), 2
    ),
    "diversify class in parts": lambda: balal.diversify(LOGITS[:, 0], LABELS / 2, 2),
    "diversify short mask": lambda: balal.diversify(
        LOGITS[:, 0], LABELS, 2, candidates=np.ones(3, bool)
    ),
    "diversify mask of numbers": lambda: balal.diversify(
        LOGITS[:, 0], LABELS, 2, candidates=np.arange(10)
    ),
    "diversify budget float": lambda: balal.diversify(LOGITS[:, 0], LABELS, 2.0),
    "diversify budget bool": lambda: balal.diversify(LOGITS[:, 0], LABELS, True),
    "diversify budget array": lambda: balal.diversify(LOGITS[:, 0], LABELS, jnp.int32(2)),
    "diversify budget negative": lambda: balal.diversify(LOGITS[:, 0], LABELS, -1),
    "k_center nan": lambda: balal.k_center(put(FEATURES, np.nan, 3), 2, start=0),
    "k_center inf": lambda: balal.k_center(put(FEATURES, np.inf, 3, 4), 2, start=3),
    "k_center huge": lambda: balal.k_center(put(FEATURES, 1e20, 3), 2, start=0),
    "k_center all nan": lambda: balal.k_center(FEATURES * np.nan, 2, start=0),
    "k_center labelled nan": lambda: balal.k_center(
        put(FEATURES, np.nan, 3), 2, labelled=[1, 3], candidates=np.arange(10) > 3
    ),
    "k_center labelled too large": lambda: balal.k_center(FEATURES, 2, labelled=[5000]),
    "k_center labelled negative": lambda: balal.k_center(FEATURES, 2, labelled=[1, -2]),
    "k_center labelled in parts": lambda: balal.k_center(FEATURES, 2, labelled=[0.5]),
    "k_center labelled mask": lambda: balal.k_center(FEATURES, 2, labelled=np.ones(10, bool)),
    "k_center labelled table": lambda: balal.k_center(FEATURES, 2, labelled=[[1, 2]]),
    "k_center start too large": lambda: balal.k_center(FEATURES, 2, start=10),
    "k_center start negative": lambda: balal.k_center(FEATURES, 2, start=-1),
    "k_center start in parts": lambda: balal.k_center(FEATURES, 2, start=0.5),
    "k_center start bool": lambda: balal.k_center(FEATURES, 2, start=True),
    "k_center several starts": lambda: balal.k_center(FEATURES, 2, start=[1]),
    "k_center key legacy": lambda: balal.k_center(FEATURES, 2, key=jax.random.PRNGKey(0)),
    "k_center short mask": lambda: balal.k_center(
        FEATURES, 2, start=0, candidates=np.ones(9, bool)
    ),
    "k_center mask of 0 and 1": lambda: balal.k_center(
        FEATURES, 2, start=0, candidates=np.ones(10, int)
    ),
    "k_center budget float": lambda: balal.k_center(FEATURES, 2.0, start=0),
    "k_center budget bool": lambda: balal.k_center(FEATURES, True, start=0),
    "k_center budget negative": lambda: balal.k_center(FEATURES, -1, start=0),
    "nearest nan": lambda: neighbours.nearest(put(FEATURES, np.nan, 3), 2),
    "nearest in parts": lambda: neighbours.nearest(FEATURES, 1.5),
    "nearest among too large": lambda: neighbours.nearest(FEATURES, 2, among=[10]),
    "nearest among twice": lambda: neighbours.nearest(FEATURES, 2, among=[1, 1]),
    "nearest among padding": lambda: neighbours.nearest(FEATURES, 2, among=[1, -1]),
    "nearest among none": lambda: neighbours.nearest(FEATURES, 2, among=[]),
    "nearest short mask": lambda: neighbours.nearest(FEATURES, 2, candidates=np.ones(3, bool)),
    "typicality nan": lambda: typicality.typicality_ranks(put(FEATURES, np.nan, 3)),
    "typicality short mask": lambda: typicality.typicality_ranks(
        FEATURES, candidates=np.ones(3, bool)
    ),
    "gradients too few logits": lambda: gradients.far_gradients(FEATURES, LOGITS[:9], 2),
    "gradients seed": lambda: gradients.far_gradients(FEATURES, LOGITS, 2, key=7),
    "bald of one model": lambda: disagreement.bald(LOGITS),
    "bald inf": lambda: disagreement.bald(put(MEMBERS, np.inf, 3)),
    "votes nan": lambda: disagreement.variation_ratio(put(MEMBERS, np.nan, 3)),
    "boundaries of other classes": lambda: boundaries.boundary_distances(LOGITS, FEATURES),
    "k_means nan": lambda: k_means.k_means(put(FEATURES, np.nan, 3), FEATURES[:2]),
    "k_means centers nan": lambda: k_means.k_means(FEATURES, put(FEATURES[:2], np.nan, 1)),
    "k_means rounds in parts": lambda: k_means.k_means(FEATURES, FEATURES[:2], rounds=1.5),
    "k_means++ nan": lambda: k_means.k_means_plus_plus(KEY, put(FEATURES, np.nan, 3), 2),
    "k_means++ in parts": lambda: k_means.k_means_plus_plus(KEY, FEATURES, 2.0),
    "k_means++ seed": lambda: k_means.k_means_plus_plus(7, FEATURES, 2),
    "posterior nan": lambda: gaussian_process.begin(
        put(FEATURES, np.nan, 3), capacity=2, num_classes=3
    ),
    "posterior capacity in parts": lambda: gaussian_process.begin(
        FEATURES, capacity=2.5, num_classes=3
    ),
    "posterior row too large": lambda: gaussian_process.update(process(), [10], [1]),
    "posterior row in parts": lambda: gaussian_process.update(process(), 1.5, 1),
    "posterior row negative": lambda: gaussian_process.update(process(), -2, 1),
    "posterior label too large": lambda: gaussian_process.update(process(), 1, 3),
    "posterior labels too few": lambda: gaussian_process.update(process(), [1, 2], [1]),
    "posterior row of none": lambda: gaussian_process.update(process(), [1, -1], [1, 2]),
    "posterior beyond capacity": lambda: gaussian_process.update(process(), [1, 2, 3], [1, 2, 0]),
    "posterior restricted": lambda: gaussian_process.restrict(process(), [0, 10]),
    "posterior worth": lambda: gaussian_process.utility(process(), np.ones(2, np.float32), 1.0),
    "posterior sharpness in parts": lambda: gaussian_process.explain(process(), sharpness=1.5),
    "choose no class": lambda: balancing.choose(DISTANCES, -1, OVER, np.ones(10, bool)),
    "choose class too large": lambda: balancing.choose(DISTANCES, 3, OVER, np.ones(10, bool)),
    "choose short mask": lambda: balancing.choose(DISTANCES, 0, OVER, np.ones(9, bool)),
    "choose over rows": lambda: balancing.choose(DISTANCES, 0, [1, 2], np.ones(10, bool)),
    "misses label too large": lambda: balancing.misses([3], [1], num_classes=3),
    "misses lengths": lambda: balancing.misses([1, 2], [1], num_classes=3),
    "wanted shares": lambda: balancing.wanted_class(np.ones(3) / 3, np.zeros(3, int), [0] * 3),
    "wanted lengths": lambda: balancing.wanted_class([1, 2], [0], [0, 0]),
    "switch shares": lambda: switch.switches(np.ones(3) / 3, 3, 2),
    "switch table": lambda: switch.represented([[1, 2]], 3),
    "bits of a seed": lambda: sampling.random_bits(7, 3),
    "bits in parts": lambda: sampling.random_bits(KEY, 3.0),
    # measures and heads
    "counts of parts": lambda: metrics.class_counts([0.5, 1.0], num_classes=2),
    "counts beyond int32": lambda: metrics.class_counts(np.array([2**32]), num_classes=2),
    "predictions are scores": lambda: metrics.macro_f1([0, 1], [[0.1, 0.9]] * 2, num_classes=2),
    "imbalance of a number": lambda: metrics.imbalance_ratio(3),
    "sizes in parts": lambda: random_sampling.classes_found([1.5, 2.5], 2),
    "budget of a class in parts": lambda: random_sampling.labels_until(2.5, 10),
    "subsample in parts": lambda: imbalance.subsample(KEY, [0.5, 1.5], [1, 1]),
    "loss of no class": lambda: rebalance.losses(FEATURES, put(LABELS, 3, 1)),
    "pseudo-labels nan": lambda: pseudo_labels.choose(put(PROBS, np.nan, 3), most=1),
    "head of parts": lambda: fitting.checked(FEATURES, LABELS + 0.5, 3),
    "head of complex": lambda: fitting.checked(FEATURES.astype(complex), LABELS, 3),
    # values that fit into float64 or 64 bits only
    "features beyond float32": lambda: pool(put(FEATURES.astype(float), 1e300, 4)),
    "pool of scores beyond float32": lambda: simulate(
        on=replace(POOL, scores=replace(POOL.scores, margin=np.full(10, 1e300)))
    ),
    "labels beyond int32": lambda: simulate(labels=put(LABELS, 2**32, 3)),
    "rows beyond int64": lambda: tell(np.array([2**64 - 1, 0], np.uint64)),
    "rows beyond int32": lambda: tell(np.array([2**32, 0])),
    "start of two axes": lambda: state(labelled=balal.Labelled([[1, 2]], [[0, 1]], 2)),
    "spread of big endian": lambda: balal.sharding.spread(
        balal.sharding.mesh(), balal.Pool(FEATURES.astype(">f4"))
    ),
    "spread of masked": lambda: balal.sharding.spread(
        balal.sharding.mesh(), balal.Pool(np.ma.masked_array(FEATURES, FEATURES > 0))
    ),
    "pool of whole numbers": lambda: simulate(on=balal.Pool(np.arange(30).reshape(10, 3))),
    "pool of half scores": lambda: simulate(
        on=replace(POOL, scores=replace(POOL.scores, margin=None))
    ),
    "pool of loose scores": lambda: simulate(on=balal.Pool(FEATURES, scores=FEATURES[:, 0])),
    "asked of no pool": lambda: balal.ask(ENT, FEATURES, state()),
    "classes are names": lambda: simulate(labels=np.array(["cat", "dog"] * 5)),
    "labels are flags": lambda: simulate(labels=LABELS > 0),
    "features hold None": lambda: pool(put(FEATURES.astype(object), None, 3)),
    # the doctor itself
    "check indices axes": lambda: check.indices("picks", [[1]], size=3),
    "check many indices": lambda: check.indices("picks", np.arange(20), size=3),
}


class Column:
    """As pandas and PyTorch have them: NumPy can read it, and it says so."""

    dtype = "Int64"

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values


class Missing(Column):
    """A column with a missing value, which `to_numpy` turns into objects."""

    def to_numpy(self):
        return put(self.values.astype(object), None, 0)


class Tensor(Column):
    """A tensor on another device, with what PyTorch says of one."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor\nto numpy. Use Tensor.cpu() first")


class Half:
    """A tensor of bfloat16, which NumPy cannot read and DLPack can."""

    def __init__(self, values):
        self.values = jnp.asarray(values)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def masked(values):
    return np.ma.masked_array(
        values, np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1)) + 0 * values == 0
    )


# Taken as if it were the plain array.
TAKEN = {
    "read-only": read_only,
    "every other row": lambda values: np.repeat(values, 2, axis=0)[::2],
    "big endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "nothing masked": np.ma.masked_array,
    "column": Column,
    "jax": jnp.asarray,
    "through dlpack": Half,
}
TAKEN_FLOATS = {
    "long double": lambda values: values.astype(np.longdouble),
    "float64": lambda values: values.astype(np.float64),
}
TAKEN_INTEGERS = {
    "unsigned": lambda values: values.astype(np.uint64),
    "bytes": lambda values: values.astype(np.int8),
    "list": np.ndarray.tolist,
}
TAKEN_BOOLEANS = {"list": np.ndarray.tolist}
# Refused in a sentence that holds these words.
REFUSED = {
    "complex": (lambda values: values.astype(complex), "take their real parts"),
    "strings": (lambda values: values.astype(str), "read digits with .astype(float)"),
    "objects": (lambda values: values.astype(object), "got dtype object"),
    "missing": (Missing, "row 0 holds 'None'"),
    "dates": (lambda values: values.astype(int).astype("M8[D]"), "turn dates into numbers"),
    "durations": (lambda values: values.astype(int).astype("m8[D]"), "divide durations"),
    "fields": (lambda values: np.rec.fromarrays([values] * 2), "one by one"),
    "masked": (masked, "row 0 has masked entries"),
    "sparse": (
        lambda values: scipy.sparse.csr_matrix(np.atleast_2d(values.astype(float))),
        "pass its .toarray()",
    ),
    "sparse of JAX": (
        lambda values: BCOO.fromdense(values.astype(np.float32)),
        "pass its .todense()",
    ),
    "on a device": (Tensor, "device type tensor to numpy. Use Tensor.cpu() first"),
    "keys": (lambda values: jax.random.split(KEY, len(values)), "got dtype key"),
    "nothing": (lambda values: {}, "got dict"),
}
REFUSED_INTEGERS = {
    "floats": (lambda values: values.astype(float), "use .astype(int)"),
    "booleans": (lambda values: values > 0, "use .astype(int) for classes 0 and 1"),
    "beyond int32": (lambda values: values.astype(np.int64) + 2**32, "that int32 holds, but value"),
    "far beyond": (lambda values: values.astype(np.uint64) + np.uint64(2**63), "that int32 holds"),
}
REFUSED_BOOLEANS = {
    "numbers": (lambda values: values.astype(int), "use .astype(bool) if it holds 0 and 1"),
}
DISTANCES, OVER, CANDIDATES = np.abs(FEATURES.T), np.array([False, True, False]), np.arange(10) < 7
THREE = np.array([3.0, 2.0, 1.0], np.float32)
ROWS, ASKED = np.array([3, 1, 7]), np.array(asked()[0], np.int64)
BEGUN, PENDING = state(), asked()[1]
WITHDRAWN = balal.withdraw(PENDING, ASKED)


def process():
    return gaussian_process.begin(FEATURES, capacity=2, num_classes=3)


def answered(rows, labels):
    return balal.tell(ENT, POOL, PENDING, rows, labels).labelled


def with_scores(**changes):
    return replace(POOL, scores=replace(POOL.scores, **changes))


# Where arrays are taken: the plain one, and what is done with it. At those of which the name begins
# with a capital letter nothing is converted; a kernel that takes long to compile begins with a dot
# and is told what it refuses only.
FLOATS = {
    "features": (FEATURES, pool),
    "logits": (LOGITS, lambda values: pool(logits=values)),
    "probs": (PROBS, lambda values: pool(probs=values)),
    "scores": (LOGITS[:, 0], lambda values: pool(scores=with_scores(margin=values).scores)),
    "Pool of features": (FEATURES, lambda values: simulate(on=replace(POOL, features=values))),
    "Pool of scores": (LOGITS[:, 0], lambda values: simulate(on=with_scores(entropy=values))),
    "Pool asked": (
        FEATURES,
        lambda values: balal.ask(ENT, replace(POOL, features=values), BEGUN)[0],
    ),
    "entropy": (LOGITS, balal.entropy),
    "score": (LOGITS, balal.score),
    "diversify": (LOGITS[:, 0], lambda values: balal.diversify(values, LABELS, 4)),
    "k_center": (FEATURES, lambda values: balal.k_center(values, 4, start=0)),
    ".nearest": (FEATURES, lambda values: neighbours.nearest(values, 2)),
    ".typicality": (FEATURES, typicality.typicality_ranks),
    ".k_means": (FEATURES, lambda values: k_means.k_means(values, FEATURES[:2])),
    ".centers": (FEATURES, lambda values: k_means.k_means(FEATURES, values)),
    ".k_means++": (FEATURES, lambda values: k_means.k_means_plus_plus(KEY, values, 2)),
    ".posterior": (
        FEATURES,
        lambda values: gaussian_process.begin(values, capacity=2, num_classes=3),
    ),
    "choose": (DISTANCES, lambda values: balancing.choose(values, 0, OVER, CANDIDATES)),
    "metrics": (THREE, metrics.imbalance_ratio),
    "head": (FEATURES, lambda values: fitting.checked(values, LABELS, 3)[0]),
    "adjust": (FEATURES, lambda values: rebalance.adjust(values, THREE)),
    "losses": (FEATURES, lambda values: rebalance.losses(values, LABELS)),
    "scaling": (FEATURES, lambda values: scaling.shrink(FEATURES, pool=values)),
    "pseudo-labels": (PROBS, lambda values: pseudo_labels.choose(values, most=1).rows),
}
INTEGERS = {
    "labels": (LABELS, lambda values: simulate(labels=values)),
    "start rows": (ROWS, lambda values: state(labelled=(values, LABELS[:3])).labelled),
    "start labels": (LABELS[:3], lambda values: state(labelled=(ROWS, values)).labelled),
    "told rows": (ASKED, lambda values: answered(values, LABELS[:2])),
    "told labels": (LABELS[:2], lambda values: answered(ASKED, values)),
    ".withdrawn": (ASKED, lambda values: balal.withdraw(PENDING, values)),
    ".restored": (ASKED, lambda values: balal.restore(WITHDRAWN, values)),
    ".moved": (np.arange(10), lambda values: balal.remap(PENDING, values, num_rows=10)),
    "predicted": (LABELS, lambda values: pool(scores=with_scores(predicted=values).scores)),
    "diversify": (LABELS, lambda values: balal.diversify(LOGITS[:, 0], values, 4)),
    ".k_center": (ROWS, lambda values: balal.k_center(FEATURES, 4, labelled=values)),
    ".among": (ROWS, lambda values: neighbours.nearest(FEATURES, 2, among=values)),
    ".update": (ROWS, lambda values: gaussian_process.update(process(), values, LABELS[:3])),
    ".misses": (LABELS, lambda values: balancing.misses(values, LABELS, num_classes=3)),
    ".wanted": (ROWS, lambda values: balancing.wanted_class(values, [0] * 3, [0] * 3)),
    "switch": (ROWS, lambda values: switch.switches(values, 11, 3)),
    "metrics": (LABELS, lambda values: metrics.class_counts(values, num_classes=3)),
    ".predictions": (LABELS, lambda values: metrics.macro_f1(LABELS, values, num_classes=3)),
    ".subsample": (LABELS, lambda values: imbalance.subsample(KEY, values, [1, 1, 1])),
    "sizes": (ROWS, lambda values: random_sampling.classes_found(values, 2)),
    "head": (LABELS, lambda values: fitting.checked(FEATURES, values, 3)[1]),
    "counts of": (LABELS, lambda values: rebalance.counts_of(values, num_classes=3)),
    "choice of a head": (
        LABELS,
        lambda values: model_selection.choose({"0": lambda _, rows: 0 * rows}, values).accuracies,
    ),
    "cache": (LABELS, lambda values: feature_cache._rows("abc", values, ())["labels"]),
}
BOOLEANS = {
    "candidates": (CANDIDATES, lambda values: pool(candidates=values)),
    "Pool of candidates": (
        CANDIDATES,
        lambda values: simulate(on=replace(POOL, candidates=values)),
    ),
    "diversify": (
        CANDIDATES,
        lambda values: balal.diversify(LOGITS[:, 0], LABELS, 4, candidates=values),
    ),
    ".k_center": (
        CANDIDATES,
        lambda values: balal.k_center(FEATURES, 4, start=0, candidates=values),
    ),
    ".typicality": (
        CANDIDATES,
        lambda values: typicality.typicality_ranks(FEATURES, candidates=values),
    ),
    ".choose": (CANDIDATES, lambda values: balancing.choose(DISTANCES, 0, OVER, values)),
}
KINDS = {
    "floats": (FLOATS, TAKEN | TAKEN_FLOATS, REFUSED),
    "integers": (INTEGERS, TAKEN | TAKEN_INTEGERS, REFUSED | REFUSED_INTEGERS),
    "booleans": (BOOLEANS, TAKEN | TAKEN_BOOLEANS, REFUSED | REFUSED_BOOLEANS),
}


def told(function, *arguments):
    """The sentence of a ValueError, or another exception as it is."""
    try:
        function(*arguments)
        return "nothing was raised"
    except ValueError as error:
        return str(error)
    except Exception as error:
        return repr(error)


def same(place, plain, other):
    """What is wrong where the outcome must be that of the plain array, or nothing."""
    try:
        values = zip(
            *(map(np.asarray, jax.tree.leaves(place(v))) for v in (plain, other)), strict=True
        )
        return "" if all(np.array_equal(*pair) for pair in values) else "another outcome"
    except Exception as error:
        return repr(error)


def arrays_of_other_kinds():
    found = {}
    for dtype, (places, taken, refused) in KINDS.items():
        for name, (plain, place) in places.items():
            wrong = {}
            if name[0].isupper():
                # A pool made by hand holds what JAX can take as it is.
                for kind in ("nothing masked", "column", *["big endian"] * (dtype != "booleans")):
                    said = told(place, taken[kind](plain))
                    wrong[kind] = "" if "balal.pool" in said else said
                wrong["read-only"] = same(place, plain, read_only(plain))
            elif name[0] != ".":
                wrong |= {kind: same(place, plain, make(plain)) for kind, make in taken.items()}
            for kind, (make, words) in refused.items():
                said = told(place, make(plain))
                wrong[kind] = "" if words in said and "\n" not in said else said
            found[f"{dtype}: {name}"] = {kind: said for kind, said in wrong.items() if said}
    return found


if __name__ == "__main__":
    outcomes = {}
    for name, fault in FAULTS.items():
        began = time.perf_counter()
        try:
            fault()
            outcomes[name] = ["nothing was raised", ""]
        except Exception as error:
            outcomes[name] = [type(error).__name__, str(error)]
        outcomes[name].append(time.perf_counter() - began)
    print(json.dumps(dict(faults=outcomes, arrays=arrays_of_other_kinds())))
