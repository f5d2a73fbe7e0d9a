"""How do balal's strategies compare with the same ones in other people's libraries?

    python -m benchmarks.peers                          both pools, all peers; an hour or two
    python -m benchmarks.peers --pools=lite0 --budget=500 --limit_seconds=1800
    python -m benchmarks.peers --peers=skactiveml:TypiClust,apricot:FacilityLocation

`python -m pip install 'balal[peers]'` installs them. A labelled set is drawn at random; then ours
and theirs each buy the same number of labels at once, from the same features and, where they ask a
target model, the same class probabilities. Every selection runs in a process of its own, one after
the other, and is ended when it takes more than the limits.

s are seconds of processor time, of all cores together, to which other processes add least;
"compiling" is what compiling, and theirs importing, takes before. The limits count both. GB is the
most memory that the whole process held. Accuracies are balanced, in percent, of the two heads on
all labels; "both" is how many rows ours and the peer have in common.
"""

import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import balal
from balal.heads import logistic, scaling
from balal.strategies import MaxHerding, ProbCover, TypiClust, fields
from benchmarks import common
from experiments.common import classifiers, datasets, peers

FLAGS = flags.FLAGS
flags.DEFINE_list("pools", ["lite0", "made"], "lite0, 17,168 x 256; made, 100,000 x 64.")
flags.DEFINE_list("peers", list(peers.PEERS), "Whom to compare with.")
flags.DEFINE_integer("start", 100, "Labels drawn at random before.", lower_bound=1)
flags.DEFINE_integer("budget", 400, "Labels bought.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0)
flags.DEFINE_integer("limit_seconds", 600, "Processor time of a selection.", lower_bound=1)
flags.DEFINE_float("limit_gb", 8, "Memory of a selection.", lower_bound=1)
flags.DEFINE_list("child", None, "For the processes of this program.")

HEADS = ("svm", "logistic+logit_adjustment")


@dataclass(frozen=True)
class Counterpart:
    """Our strategy for what a peer does. make: from the number of classes."""

    name: str
    make: Callable[[int], balal.Strategy]


OURS = {
    "skactiveml:CoreSet": Counterpart("core_set", lambda _: balal.strategy("core_set")),
    "skactiveml:TypiClust": Counterpart("typiclust", lambda _: TypiClust()),
    "skactiveml:ProbCover": Counterpart("prob_cover", lambda number: ProbCover(clusters=number)),
    "skactiveml:MaxHerding": Counterpart("max_herding", lambda _: MaxHerding()),
    "skactiveml:Badge": Counterpart("badge", lambda _: balal.strategy("badge")),
    "apricot:FacilityLocation": Counterpart("max_herding", lambda _: MaxHerding()),
}


@dataclass(frozen=True)
class Task:
    """A pool with answers, its test set, and where it stands: the labelled rows and what a head
    fitted to them predicts."""

    features: np.ndarray
    labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    labelled: np.ndarray
    probabilities: np.ndarray


def task_of(pool: str) -> Task:
    """The task on a pool with a name."""
    if pool == "lite0":
        data = datasets.load()
        parts = data.features, data.labels, data.test_features, data.test_labels
    else:
        parts = made(100_000, 64, 100)
    features, labels, test_features, test_labels = parts
    features, test_features = (
        scaling.shrink(part, pool=features) for part in (features, test_features)
    )
    rng = np.random.default_rng(FLAGS.seed)
    labelled = np.sort(rng.choice(len(labels), FLAGS.start, replace=False))
    number = int(labels.max()) + 1
    head = logistic.fit(features[labelled], labels[labelled], num_classes=number, seed=FLAGS.seed)
    probabilities = np.zeros((len(features), number), np.float32)
    probabilities[:, head.classes] = logistic.probabilities(head, features)
    return Task(features, labels, test_features, test_labels, number, labelled, probabilities)


def made(rows: int, size: int, num_classes: int) -> tuple[np.ndarray, ...]:
    """A long-tailed pool of overlapping Gaussian classes, the largest fifty times the smallest, and
    a balanced test set."""
    rng = np.random.default_rng(0)
    shares = 50.0 ** -np.linspace(0, 1, num_classes)
    centres = rng.normal(size=(num_classes, size))

    def around(labels):
        return (centres[labels] + 1.5 * rng.normal(size=(len(labels), size))).astype(np.float32)

    labels = rng.choice(num_classes, rows, p=shares / shares.sum())
    tests = np.repeat(np.arange(num_classes), 50)
    return around(labels), labels, around(tests), tests


def accuracies(task: Task, picks: np.ndarray) -> list[float]:
    """Balanced, in percent, of each head."""
    rows = np.sort(np.concatenate([task.labelled, picks]))
    options = dict(num_classes=task.num_classes, seed=FLAGS.seed)
    work = classifiers.Task(
        task.features[rows], task.labels[rows], task.features[:0], task.test_features, options
    )

    def one(name):
        predicted = classifiers.fit(name, work).predicted
        return 100 * float(
            balal.metrics.balanced_accuracy(
                task.test_labels, predicted, num_classes=task.num_classes
            )
        )

    return [one(name) for name in HEADS]


def select(program: str, peer: str, folder: Path) -> dict[str, Any]:
    """What a child does: one selection, within the limits."""
    features, labelled, probabilities = (
        np.load(folder / f"{name}.npy") for name in ("features", "labelled", "probabilities")
    )
    ours = OURS[peer]
    pool = balal.pool(features, logits=np.log(np.maximum(probabilities, 1e-30)), keep_logits=True)
    given = features
    if peer in peers.UNIT_ROWS:
        # As ours are.
        given = np.asarray(fields.unit_rows(pool, name=ours.name))
    limit = int(_processor()) + FLAGS.limit_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (int(FLAGS.limit_gb * 1e9),) * 2)
    began = _processor()
    if program == "ours":
        run = _compiled(ours, pool, labelled, probabilities.shape[1])
    else:
        # Few rows first, for what is imported and compiled then.
        few, some = np.arange(5), slice(200)
        _picked(peer, given[some], few, 2, probabilities[some])
        run = partial(_picked, peer, given, labelled, FLAGS.budget, probabilities)
    compiling = _processor() - began
    picks = run()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = _processor() - began - compiling
    return dict(picks=picks.tolist(), seconds=seconds, compiling=compiling, memory=memory)


def _picked(peer, features, labelled, budget: int, probabilities) -> np.ndarray:
    return peers.pick(
        peer,
        features,
        labelled,
        budget,
        FLAGS.seed,
        probabilities=probabilities,
        num_classes=probabilities.shape[1],
    )


def _compiled(
    ours: Counterpart, pool: balal.Pool, rows: np.ndarray, num_classes: int
) -> Callable[[], np.ndarray]:
    """Our strategy's whole selection, compiled."""
    strategy, answers = ours.make(num_classes), jnp.zeros(len(pool.features), jnp.int32)

    def buy(pool, answers, rows, key):
        options = dict(budget=FLAGS.budget, num_classes=num_classes, key=key)
        start = rows, answers[rows]
        return balal.simulate(strategy, pool, answers, labelled=start, **options).indices

    arguments = pool, answers, jnp.asarray(rows), jax.random.key(FLAGS.seed)
    program = jax.jit(buy).lower(*arguments).compile()
    return lambda: np.asarray(program(*arguments))


def _processor() -> float:
    """Seconds of processor time that this process has taken, those of its threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(program: str, peer: str, folder: Path) -> dict[str, Any] | str:
    """What a child found, or why it did not."""
    began = time.perf_counter()
    options = ("budget", "seed", "limit_seconds", "limit_gb")
    child = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.peers", f"--child={program},{peer},{folder}"),
            *(f"--{name}={FLAGS[name].value}" for name in options),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    print(f"{program} {peer}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    if child.returncode == 0:
        found = json.loads(child.stdout.splitlines()[-1])
        print({name: found[name] for name in set(found) - {"picks"}}, file=sys.stderr, flush=True)
        return found
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"over {FLAGS.limit_seconds} s"
    if any(sign in child.stderr for sign in ("MemoryError", "bad_alloc", "RESOURCE_EXHAUSTED")):
        return f"over {FLAGS.limit_gb:g} GB"
    raise RuntimeError(f"{program} {peer} ended with {child.returncode}: {child.stderr[-2000:]}")


def compare(pool: str) -> dict[str, Any]:
    """The table of a pool."""
    task, rows, found = task_of(pool), [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for array in ("features", "labelled", "probabilities"):
            np.save(folder / f"{array}.npy", getattr(task, array))
        for peer in FLAGS.peers:
            ours = OURS[peer].name
            if ours not in found:
                found[ours] = run("ours", peer, folder)
                rows.append(_row(f"**{ours}**", task, found[ours], None))
            rows.append(_row(peer, task, run("theirs", peer, folder), found[ours]))
    title = f"{pool}, {' x '.join(f'{n:,}' for n in task.features.shape)}: {FLAGS.budget} labels "
    return common.table(f"{title}after {FLAGS.start}", rows)


def _row(name: str, task: Task, result: Any, ours: Any) -> dict[str, Any]:
    """A line of the table. ours: None in the line of ours."""
    if isinstance(result, str):
        return {"program": name, **dict.fromkeys(HEADS), "both": None, "s": result} | dict(
            compiling=None, GB=None
        )
    both = None
    if isinstance(ours, dict):
        both = len(set(result["picks"]) & set(ours["picks"]))
    return {
        "program": name,
        **dict(zip(HEADS, accuracies(task, np.array(result["picks"])), strict=True)),
        "both": both,
        "s": result["seconds"],
        "compiling": result["compiling"],
        "GB": result["memory"] / 1e9,
    }


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"this program takes flags only, got {argv[1:]}")
    if FLAGS.child:
        program, peer, folder = FLAGS.child
        print(json.dumps(select(program, peer, Path(folder))))
        return
    for flag, known in (("pools", ("lite0", "made")), ("peers", OURS)):
        if unknown := set(FLAGS[flag].value) - set(known):
            raise app.UsageError(f"--{flag} knows {', '.join(known)}, got {', '.join(unknown)}")
    common.finish("peers", [compare(pool) for pool in FLAGS.pools])


if __name__ == "__main__":
    app.run(main)
