"""The posterior rule of balal 0.1: ask where a rare or unseen class is likely and there is still
much to learn about the row itself. Kept to compare with."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from balal.kernels import gaussian_process, sampling
from balal.strategies.looks import Memory, ProcessRule, Surroundings


@dataclass(frozen=True)
class Posterior01(ProcessRule):
    """Follows `first` for a few labels, then asks for the row whose own label is expected to be
    worth most.

    The expected worth of a row's label is multiplied by the remaining variance, so that a row that
    resembles labelled ones is not asked for what is known already. What no label explains is always
    worth 1, there is one bandwidth, and no row stands for others. The first row is drawn.

    Looks are made after 1, 2, 4, ... answers up to `every`, and then after each `every`. The
    attributes are those of `balal.strategies.looks.ProcessRule`.

    Source: this library, version 0.1.
    """

    near: int = 2048
    drawn: int = 0
    every: int = 16
    scale: float | tuple[float, ...] = 1.0

    def _look_before(self, answers: Int[Array, ""]) -> Int[Array, ""]:
        power = jnp.left_shift(1, 31 - jax.lax.clz(jnp.maximum(answers, 1)))
        later = answers // self.every * self.every
        before = jnp.where(answers < self.every, power, later)
        return jnp.where(answers == 0, 0, before).astype(jnp.int32)

    def _promising(
        self,
        key: Key[Array, ""],
        process: gaussian_process.GaussianProcess,
        surroundings: Surroundings,
        candidates: Bool[Array, " N"],
    ) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        values = self._values(key, process, surroundings[0])
        return values, jnp.where(candidates, values, 0)

    def _gains(self, memory: Memory) -> Float[Array, " m"]:
        near, number = memory.near, len(memory.process.variance)
        rows = jnp.maximum(near.rows, 0)
        return self._values(memory.key, near.process, near.typical, rows=rows, num_rows=number)

    # It needs no covariances but those of the row that is answered.

    def _localise(
        self, process: gaussian_process.GaussianProcess, rows: Int[Array, " n"], number: int
    ) -> gaussian_process.GaussianProcess:
        del number
        return gaussian_process.restrict(process, rows)

    def _take_in(
        self,
        process: gaussian_process.GaussianProcess,
        place: Int[Array, ""],
        label: Int[Array, ""],
    ) -> gaussian_process.GaussianProcess:
        return gaussian_process.update(process, place, label)

    def _values(
        self,
        key: Key[Array, ""],
        process: gaussian_process.GaussianProcess,
        typical: Float[Array, " n"],
        *,
        rows: Int[Array, " n"] | None = None,
        num_rows: int | None = None,
    ) -> Float[Array, " n"]:
        """What asking for each row is worth; rows: of a pool of `num_rows` (None: all)."""

        def expected():
            kept = 1 - self.typical * (1 - typical)
            return self._expected_worth(process)[0] * process.variance * kept

        def drawn():
            # Before any label all rows are worth the same, so the first pick is drawn.
            bits = sampling.random_bits(key, num_rows or len(typical)).astype(jnp.float32)
            return bits if rows is None else bits[rows]

        return jax.lax.cond(process.count > 0, expected, drawn)

    def _worth(self, counts: Int[Array, " C"]) -> tuple[Float[Array, " C"], Float[Array, ""]]:
        return self._of_classes(counts)
