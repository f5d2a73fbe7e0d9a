"""Strategies by name: published, of an installed package, and one's own by where they are."""

import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

import balal
from balal.strategies import registry

OWN = textwrap.dedent(
    """
    from dataclasses import dataclass
    import jax.numpy as jnp
    import balal

    @dataclass(frozen=True)
    class Last(balal.Ordered):
        step: int = 1

        @property
        def needs(self):
            return ()

        def order(self, pool, labelled, budget, key):
            free = balal.available(pool, labelled)
            rows = jnp.lexsort((-jnp.arange(pool.num_rows), ~free))[:budget]
            return jnp.where(free[rows], rows, -1).astype(jnp.int32)

    EVERY_OTHER = Last(step=2)
    """
)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "a+b" / "mine.py"
    path.parent.mkdir()
    path.write_text(OWN)
    return path


def test_one_of_a_file_is_found_alone_and_with_a_rule_behind_it(own):
    alone = balal.strategy(f"{own}:Last")
    assert (type(alone).__name__, alone.step) == ("Last", 1)
    assert balal.strategy(f"{own}:EVERY_OTHER").step == 2
    ruled = balal.strategy(f"{own}:Last+posterior")
    assert ruled == balal.Posterior(alone)
    assert hash(ruled) == hash(balal.Posterior(balal.strategy(f"{own}:Last")))


def test_one_of_a_module_is_found(own, monkeypatch):
    monkeypatch.syspath_prepend(own.parent)
    assert balal.strategy("mine:Last+balance").first == balal.strategy("mine:Last")
    del sys.modules["mine"]


def test_the_fingerprint_is_of_the_code_and_published_ones_have_none(own):
    first = registry.source(f"{own}:Last+balance")
    assert first == registry.source(f"{own}:EVERY_OTHER")
    assert len(first) == 16
    assert registry.source("core_set+balance") is None


@dataclass(frozen=True)
class Installed(balal.Ordered):
    pass


def test_an_installed_package_registers_names_of_its_own(monkeypatch):
    point = EntryPoint("theirs", f"{__name__}:Installed", registry.GROUP)
    asked = []
    monkeypatch.setattr(registry, "entry_points", lambda group: asked.append(group) or [point])
    assert balal.strategy("theirs") == Installed()
    assert balal.strategy("theirs+balance") == balal.Balanced(Installed())
    assert set(asked) == {"balal.strategies"}
    with pytest.raises(ValueError, match=r"no strategy is called 'their'; the nearest .*theirs"):
        balal.strategy("their")


@pytest.mark.parametrize(
    ("code", "name", "sentence"),
    [
        ("def broken(:", "Last", r"mine\.py cannot be imported \(SyntaxError"),
        ("import no_such_thing", "Last", r"cannot be imported \(ModuleNotFoundError"),
        ("1 / 0", "Last", r"cannot be imported \(ZeroDivisionError"),
        ("class Last: pass", "Last", "without needs, init, ask, tell"),
        ("Lost = 3", "Last", "no 'Last'; the nearest names there are Lost"),
    ],
)
def test_a_file_that_does_not_have_it_is_reported_in_one_sentence(tmp_path, code, name, sentence):
    path = tmp_path / "mine.py"
    path.write_text(code)
    with pytest.raises(ValueError, match=sentence):
        balal.strategy(f"{path}:{name}")
    # Nothing of it stays behind.
    path.write_text(OWN)
    assert balal.strategy(f"{path}:Last").step == 1
