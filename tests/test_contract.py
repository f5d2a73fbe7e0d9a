"""The contract suite: in full for one strategy of each family and wrapper, a smoke check for every
other name in the registry.

A new name is found there; a new family or wrapper goes into FULL, and a test fails until it does.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal.strategies import STRATEGIES, names
from balal.testing import check_strategy

FULL = ["random", "ent_inv_div", "core_set", "ent_inv_div+balance", "ent_inv_div+posterior"]
QUICK = {"random", "ent_inv_div+balance"}
CHANCE = {"random", "core_set", "posterior"}
# The suite's pools and budgets are small: the posterior takes over soon, and chooses from few rows
# between two looks.
SOON = dict(start=3, every=2, near=4)


def twin(name):
    """A NumPy twin of a strategy without chance."""
    first, _, rule = name.partition("+")

    def picks(features, scores, candidates, labels, start, budget, num_classes):
        free = candidates.copy()
        free[start[0]] = False
        score = {"ent": "entropy", "ms": "margin", "lc": "least_confidence"}[
            first.partition("_")[0]
        ]
        values = scores[score] * (1 if "inv" in first else -1)
        if "div" in first:
            order = reference.diversify(values, scores["predicted"], budget, free)
        else:
            order = reference.ordered(values, budget, free)
        if not rule:
            return order
        if rule == "posterior":
            return reference.posterior_picks(
                features,
                labels,
                budget,
                num_classes,
                first=order,
                begin=SOON["start"],
                every=SOON["every"],
                near=SOON["near"],
                start=start,
                candidates=candidates,
            )
        return reference.balanced(
            order, features, labels, budget, num_classes, start=start[0], candidates=candidates
        )[0]

    return picks


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.quick if name in QUICK else ()) for name in FULL]
)
def test_the_whole_contract(name):
    first = name.partition("+")[0]
    examples = 5 if name in QUICK else 3
    strategy = balal.strategy(name)
    if isinstance(strategy, balal.Posterior):
        strategy = replace(strategy, **SOON)
    check_strategy(
        strategy,
        examples=examples,
        chance=first in CHANCE,
        reference=None if first in CHANCE else twin(name),
    )


def test_the_suite_covers_every_family_and_every_wrapper():
    families = {type(balal.strategy(name)) for name in FULL}
    assert families == {type(balal.strategy(name)) for name in names()}


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in FULL])
def test_every_other_name_picks_distinct_candidates(name):
    rng = np.random.default_rng(0)
    pool = balal.pool(
        rng.normal(size=(20, 3)).astype(np.float32),
        logits=rng.normal(size=(20, 4)),
        candidates=np.arange(20) % 3 > 0,
    )
    picks = balal.one_shot(
        balal.strategy(name),
        pool,
        rng.integers(0, 3, 20),
        budget=13,
        num_classes=3,
        key=jax.random.key(0),
    ).indices
    assert sorted(picks.tolist()) == np.flatnonzero(np.arange(20) % 3 > 0).tolist()


@pytest.mark.parametrize("name", ["core_set", "ent_inv_div+balance", "ent_inv_div+posterior"])
def test_a_budget_that_is_data_buys_the_same(name):
    rng = np.random.default_rng(1)
    pool = balal.pool(
        rng.normal(size=(20, 3)).astype(np.float32),
        logits=rng.normal(size=(20, 4)),
        candidates=np.arange(20) % 5 > 0,
    )
    labels, start = rng.integers(0, 3, 20), (np.array([3, 7]), np.array([1, 1]))
    options = dict(num_classes=3, key=jax.random.key(0), labelled=start)
    strategy = balal.strategy(name)
    served = jax.vmap(
        lambda budget: balal.simulate(strategy, pool, labels, budget=budget, capacity=11, **options)
    )(jnp.array([4, 9]))
    for lane, budget in enumerate((4, 9)):
        alone = balal.simulate(strategy, pool, labels, budget=budget, **options)
        assert served.indices[lane].tolist() == [*alone.indices.tolist(), *[-1] * (11 - budget)]
        assert served.counts[lane].tolist() == alone.counts.tolist()
        assert int(served.switched_at[lane]) == int(alone.switched_at)


def test_one_program_serves_all_budgets():
    pool, labels = balal.pool(np.eye(9, dtype=np.float32)), np.arange(9) % 2
    before = None
    for budget in (3, 5, 8):
        balal.one_shot(
            balal.strategy("random"),
            pool,
            labels,
            budget=budget,
            capacity=8,
            num_classes=2,
            key=jax.random.key(0),
        )
        before = before or balal.loop.compilations()
    assert balal.loop.compilations() == before


# The suite must be able to fail: strategies that break one contract each.


@dataclass(frozen=True)
class Broken(balal.Ordered):
    """Rows in order of the first feature, and one fault."""

    fault: str

    @property
    def needs(self):
        return ("features",)

    def order(self, pool, labelled, budget, key):
        free = balal.types.available(pool, labelled)
        values = pool.features[:, 0]
        if self.fault == "asks rows that are no candidates":
            free = balal.types.available(balal.Pool(pool.features), labelled)
        if self.fault == "asks labelled rows again":
            free = pool.candidates
        if self.fault == "depends on the size of the pool":
            values = values * (1 - pool.size % 2 * 2)
        if self.fault == "depends on the place of a row":
            values = values + jnp.arange(pool.size)
        order = jnp.lexsort((values, ~free))[:budget]
        if self.fault == "asks a row twice":
            order = order.at[-1].set(order[0])
        return order.astype(jnp.int32)

    def ask(self, memory, pool, labelled):
        if self.fault in (
            "asks rows that are no candidates",
            "asks labelled rows again",
            "asks a row twice",
        ):
            # The next place of the order, whatever the pool says.
            started = labelled.indices.shape[0] - memory.indices.shape[0]
            return memory.indices[labelled.count - started], memory
        return super().ask(memory, pool, labelled)


@dataclass(frozen=True)
class Forgets:
    """Chance kept in what `ask` returns: lost when the state is saved."""

    needs = ()

    def init(self, pool, labelled, budget, num_classes, key):
        return key

    def ask(self, memory, pool, labelled):
        key, draw = jax.random.split(memory)
        values = jax.random.uniform(draw, (pool.size,))
        return jnp.argmax(jnp.where(balal.types.available(pool, labelled), values, -1)).astype(
            jnp.int32
        ), key

    def tell(self, memory, pool, index, label):
        return memory

    def guess(self, memory, pool, index):
        return jnp.int32(-1)

    def grow(self, memory, num_classes):
        return memory


@pytest.mark.parametrize(
    ("fault", "contract", "said"),
    [
        ("asks rows that are no candidates", "picks are distinct candidates", "must be candidates"),
        ("asks labelled rows again", "picks are distinct candidates", "was picked again"),
        ("asks a row twice", "picks are distinct candidates", "must be distinct"),
        (
            "depends on the size of the pool",
            "padding changes no pick",
            "with three masked rows more",
        ),
        ("depends on the place of a row", "permuted rows are permuted picks", "permuted:"),
    ],
)
def test_a_strategy_that_breaks_a_contract_is_told_which(fault, contract, said):
    with pytest.raises(AssertionError, match=f"(?s){contract}.*{said}"):
        check_strategy(Broken(fault), examples=4)


def test_a_strategy_without_that_fault_passes():
    check_strategy(Broken("none"), examples=3, chance=False)


def test_memory_that_does_not_survive_saving_is_found():
    with pytest.raises(AssertionError, match="a saved state goes on"):
        check_strategy(Forgets(), examples=6)


def test_a_strategy_that_is_said_to_use_chance_must():
    with pytest.raises(AssertionError, match="said to use chance"):
        check_strategy(Broken("none"), examples=1, chance=True)


@pytest.mark.quick
def test_the_guide_for_contributors_shows_a_strategy_that_passes():
    guide = (Path(__file__).parent.parent / "docs/own_strategy.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[:2]
    assert "check_strategy(Largest()" in blocks[1]
    exec("\n".join(blocks), {"__name__": "guide"})
