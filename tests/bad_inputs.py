"""Every fault a caller can make, run as a user would: no type checker on. Prints {name: [exception
type, message]} as JSON.

Each entry is an expression; `test_check.py` says which words its message must hold.
"""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np

import balal
from balal import check
from balal.kernels import gaussian_process, neighbours, switch

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(10, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(10, 4)).astype(np.float32)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
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
    # the doctor itself
    "check indices axes": lambda: check.indices("picks", [[1]], size=3),
    "check many indices": lambda: check.indices("picks", np.arange(20), size=3),
}

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
    print(json.dumps(outcomes))
