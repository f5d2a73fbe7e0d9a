"""The contract suite: in full for a strategy of each type, a smoke check for every other name in
the registry. New names and types are found there."""

from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from variations import some

import balal
from balal.strategies import (
    STRATEGIES,
    Bald,
    Planned,
    Random,
    Tailor,
    Uncertainty,
    names,
    registry,
)
from balal.strategies.base import member
from balal.testing import check_strategy, compilations

# Twins of strategies that are no order by a score of the pool.
TWINS = {
    "ms_balanced": lambda features, scores, candidates, labels, start, budget, num_classes: (
        reference.tail_first(
            scores["margin"],
            scores["predicted"],
            labels,
            budget,
            num_classes,
            start=start[0],
            candidates=candidates,
        )
    ),
}


def followed(name):
    """Whether a twin can follow it: an order by a score with any rule, or one of its own."""
    first, _ = registry.split(name)
    return (
        name in TWINS
        or name in reference.COVERAGE
        or isinstance(balal.strategy(first), Uncertainty)
    )


# Of each type the last name that a twin can follow, or else the last.
FULL = {type(balal.strategy(name)): name for name in sorted(names(), key=followed)}.values()
# What looks at answers by itself, draws, or gives others picks to a larger budget.
ADAPTIVE = {
    "posterior",
    "posterior_0_1",
    "tail_first",
    "ms_balanced",
    "galaxy",
    "direct",
    "tailor",
}
DRAWS = {
    "random",
    "core_set",
    "posterior",
    "posterior_0_1",
    "k_means_plus_plus",
    "typiclust",
    "badge",
    "cbal_core_set",
    "galaxy",
    "direct",
    "tailor",
    "similar",
    "refine",
}
PLANNED = {
    "typiclust",
    "cluster_margin",
    "cbal",
    "cbal_core_set",
    "direct",
    "refine",
}
# Of those that leave all but their order to a base class, the ones that are tried in the loop for
# the others.
IN_LOOP = {"random", "lc_inv_div"}
# The suite's pools and budgets are small: what takes over late, or looks again only after many
# answers, does so soon.
SOON = dict(start=3, every=2, near=4, parallel=1, least=1, batches=2)
# Of strategies that take their turns, two are enough.
FEW = (Uncertainty("margin"), Random())


def inherits(strategy):
    """Whether all but its order, or its plan, is that of the base class."""
    kind = type(strategy)
    return any(
        issubclass(kind, base)
        and all(
            getattr(kind, name) is getattr(base, name) for name in ("init", "ask", "tell", "grow")
        )
        for base in (balal.Ordered, Planned)
    )


# What has tests of its own with a twin, in CI by some examples.
NIGHTLY = {
    *("cbal", "direct", "ms_balanced", "tailor"),
    "lc_inv_div+posterior_0_1",
} | {name for name in FULL if inherits(balal.strategy(name)) and name not in IN_LOOP}


def soon(strategy):
    if isinstance(strategy, Bald):
        return OfTwo(strategy.measure)
    if isinstance(strategy, Tailor):
        strategy = replace(strategy, strategies=FEW)
    known = {field.name for field in fields(strategy)}
    return replace(strategy, **{name: value for name, value in SOON.items() if name in known})


@dataclass(frozen=True)
class OfTwo(Bald):
    """For the pools of the suite, whose logits are one model's: a second member sees the classes in
    reverse."""

    def order(self, pool, labelled, budget, key):
        return super().order(of_two(pool), labelled, budget, key)

    def reason(self, memory, pool, labelled, picks, names):
        return super().reason(memory, of_two(pool), labelled, picks, names)


def of_two(pool):
    return replace(pool, logits=jnp.stack([pool.logits, pool.logits[:, ::-1]], axis=1))


def twin(name):
    """A NumPy twin of a strategy that can be followed."""
    if name in TWINS:
        return TWINS[name]
    first, rule = registry.split(name)

    def picks(features, scores, candidates, labels, start, budget, num_classes):
        free = candidates.copy()
        free[start[0]] = False
        if first in reference.COVERAGE:
            return reference.COVERAGE[first](features, scores, candidates, start[0], budget)
        score = {"ent": "entropy", "ms": "margin", "lc": "least_confidence"}[first.split("_")[0]]
        values = scores[score] * (1 if "inv" in first else -1)
        if "div" in first:
            order = reference.diversify(values, scores["predicted"], budget, free)
        else:
            order = reference.ordered(values, budget, free)
        if not rule:
            return order
        if rule.startswith("posterior"):
            return getattr(reference, f"{rule}_picks")(
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
        printed = dict(denominator="max", patience=None) if rule == "balance_printed" else {}
        return reference.balanced(
            order,
            features,
            labels,
            budget,
            num_classes,
            start=start[0],
            candidates=candidates,
            **printed,
        )[0]

    return picks


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            # One that draws, and one that has all the parts of the others.
            marks=[pytest.mark.quick] * (name in ("random", "lc_inv_div+balance_printed"))
            + [pytest.mark.nightly if name in NIGHTLY else pytest.mark.slow]
            * (name != "lc_inv_div"),
        )
        for name in FULL
    ],
)
def test_the_whole_contract(name):
    strategy = soon(balal.strategy(name))
    in_loop = name in IN_LOOP or not inherits(strategy)
    check_strategy(
        strategy, examples=3, in_loop=in_loop, reference=twin(name) if followed(name) else None
    )


@dataclass(frozen=True)
class ByCounts(Planned):
    """Rows by their distance from the budget, the number of classes known and the labels of the
    first one: a plan of all that there is to plan by, which is tried in the loop for the others."""

    def plan(self, pool, memory, *, most):
        counts = memory.counts
        aim = (memory.budget + jnp.sum(counts > 0) + counts[0]).astype(jnp.float32)
        values = jnp.abs(pool.features[:, 0] - aim)
        free = balal.available(pool, memory.begun)
        order = jnp.lexsort((values, ~free))[:most].astype(jnp.int32)
        return jnp.where(free[order], order, -1)


@pytest.mark.slow
def test_the_whole_contract_of_a_plan():
    check_strategy(ByCounts(), examples=3)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in FULL])
def test_every_other_name_picks_distinct_candidates(name):
    rng = np.random.default_rng(0)
    pool = balal.pool(
        rng.normal(size=(20, 3)).astype(np.float32),
        logits=rng.normal(size=(20, 2, 3)),
        candidates=np.arange(20) % 3 > 0,
        keep_logits=True,
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


@pytest.mark.parametrize("name", names())
def test_every_name_says_of_itself_what_its_type_does(name):
    strategy = balal.strategy(name)
    first, rule = registry.split(name)
    assert strategy.adaptive == bool(rule or first in ADAPTIVE)
    assert strategy.uses_chance == (first in DRAWS)
    assert strategy.nested == ("balance" not in rule and first not in PLANNED)
    assert member(strategy, "flops")(1000, 8, 4, 20) >= 0


@pytest.mark.parametrize(
    "name",
    some(["core_set", "ent_inv_div+balance"], kept=["core_set"]),
)
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
        before = before or compilations()
    assert compilations() == before


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
            values = values * (1 - pool.num_rows % 2 * 2)
        if self.fault == "depends on the place of a row":
            values = values + jnp.arange(pool.num_rows, dtype=jnp.float32)
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
            index = memory.indices[labelled.count - started]
            return balal.Pick(index, jnp.int32(-1)), memory
        return super().ask(memory, pool, labelled)


@dataclass(frozen=True)
class Forgets(balal.Strategy):
    """Chance kept in what `ask` returns: lost when the state is saved."""

    @property
    def needs(self):
        return ()

    def init(self, pool, labelled, budget, num_classes, key):
        return key

    def ask(self, memory, pool, labelled):
        key, draw = jax.random.split(memory)
        values = jax.random.uniform(draw, (pool.num_rows,))
        free = balal.available(pool, labelled)
        index = jnp.argmax(jnp.where(free, values, -1)).astype(jnp.int32)
        return balal.Pick(index, jnp.int32(-1)), key

    def tell(self, memory, pool, index, label):
        return memory


@dataclass(frozen=True)
class Peeks(balal.Strategy):
    """Reads the answers where `ask` is not to look for them: asks rows far from those of class
    0."""

    @property
    def needs(self):
        return ("features",)

    def init(self, pool, labelled, budget, num_classes, key):
        return ()

    def ask(self, memory, pool, labelled):
        rows = pool.features[labelled.indices]
        weight = (labelled.labels == 0)[:, None]
        count = jnp.maximum(jnp.sum(weight), 1).astype(jnp.float32)
        middle = jnp.sum(jnp.where(weight, rows, 0), axis=0) / count
        distances = jnp.sum(jnp.square(pool.features - middle[None, :]), axis=1)
        free = balal.available(pool, labelled)
        index = jnp.argmax(jnp.where(free, distances, -1)).astype(jnp.int32)
        return balal.Pick(index, jnp.int32(-1)), memory

    def tell(self, memory, pool, index, label):
        return memory


@pytest.mark.parametrize(
    ("fault", "contract", "said"),
    [
        ("asks rows that are no candidates", "picks are distinct candidates", "must be candidates"),
        ("asks labelled rows again", "picks are distinct candidates", "was picked again"),
        ("asks a row twice", "picks are distinct candidates", "must be distinct"),
        pytest.param(
            "depends on the size of the pool",
            "padding changes no pick",
            "with three masked rows more",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "depends on the place of a row",
            "permuted rows are permuted picks",
            "permuted:",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_strategy_that_breaks_a_contract_is_told_which(fault, contract, said):
    with pytest.raises(AssertionError, match=f"(?s){contract}.*{said}"):
        check_strategy(Broken(fault), examples=4, in_loop=False)


@pytest.mark.nightly
def test_a_strategy_without_that_fault_passes():
    check_strategy(Broken("none"), examples=3)


def test_memory_that_does_not_survive_saving_is_found():
    with pytest.raises(AssertionError, match="a saved state goes on"):
        check_strategy(Forgets(), examples=6)


@pytest.mark.slow
def test_answers_that_are_read_off_the_labelled_set_are_found():
    with pytest.raises(AssertionError, match="which are not to be read"):
        check_strategy(Peeks(), examples=4)


@dataclass(frozen=True)
class Claims(Broken):
    """Broken in nothing but what it says of itself."""

    claim: str = ""

    @property
    def uses_chance(self):
        return True if self.claim == "chance" else None

    def order(self, pool, labelled, budget, key):
        order = super().order(pool, labelled, budget, key)
        return jnp.roll(order, budget % 3) if self.claim == "nested" else order

    @property
    def nested(self):
        return self.claim == "nested"

    def flops(self, num_rows, num_features, num_classes, budget):
        return 1e6 / num_rows if self.claim == "flops" else 0.0

    def reason(self, memory, pool, labelled, picks, names):
        return [] if self.claim == "reason" else ["first"] * len(picks.index)


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("chance", "says that it uses chance, and other keys give the same"),
        pytest.param("nested", "nested", marks=pytest.mark.slow),
        pytest.param("flops", "says more num_rows take fewer operations", marks=pytest.mark.slow),
        pytest.param("reason", "a reason for each pick", marks=pytest.mark.slow),
    ],
)
def test_a_strategy_that_says_of_itself_what_is_not_so_is_found(claim, said):
    with pytest.raises(AssertionError, match=said):
        check_strategy(Claims("none", claim=claim), examples=2, in_loop=False)
