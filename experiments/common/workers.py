"""Heads fitted in worker processes, beside the selection in the main one.

Processes rather than threads: they leave an accelerator to the selection, and give way to it where
cores are few. Spawned rather than forked: JAX runs threads of its own.
"""

import hashlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from balal import metrics
from balal.extras import Extra
from balal.heads import svm
from experiments.common import cells, classifiers

with Extra("experiments"):
    from threadpoolctl import threadpool_limits

# How a folder begins in which the processes find features and labels.
_SHARED = ".shared-"


@dataclass(frozen=True)
class Setting:
    """How heads are fitted: which (`head`, a name of `classifiers`), with what options, and whether
    an SVM's prior thresholding, and recall and F1 of every class, are reported too."""

    num_classes: int
    C: tuple[float, ...] = (10.0,)
    folds: int = 10
    seed: int = 0
    thresholding: bool = False
    recalls: bool = False
    head: str = "svm"


@dataclass(frozen=True)
class Answers:
    """Labels other than those of the pool: int [B] of the rows that a head is fitted to, and int
    [M] of the test set."""

    labels: np.ndarray
    test_labels: np.ndarray


def name(indices: np.ndarray, answers: Answers | None = None) -> str:
    """The name of the cell of a head: equal index sets, whatever their order, share one."""
    order = np.argsort(indices, kind="stable")
    parts = [indices[order]]
    if answers:
        parts += [answers.labels[order], answers.test_labels]
    digest = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in parts))
    return f"head-{digest.hexdigest()[:24]}"


@contextmanager
def processes(count: int) -> Iterator[Executor | None]:
    """A pool of `count` processes that fit heads; None for 0: heads are then fitted in this one.

    NumPy has one thread in this process meanwhile, as in the others: where more threads than cores
    wait for each other in its products, everything takes several times as long.

    Raises: ChildProcessError where one of them was killed.
    """
    with threadpool_limits(1, user_api="blas"), _executor(count) as executor:
        yield executor


@contextmanager
def _executor(count: int) -> Iterator[Executor | None]:
    if not count:
        yield None
        return
    # Python's own helper clears up after processes that were killed, and need not warn of it.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    executor = ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=_start
    )
    try:
        yield executor
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a process that fits heads was killed, as systems do where memory runs out: run again "
            "with fewer --workers, which continues with what is finished"
        ) from error
    except KeyboardInterrupt:
        # There are moments to end in, and a fit may take minutes.
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def fitting(
    setting: Setting,
    folder: Path,
    pool: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    executor: Executor | None,
    network: Any = None,
) -> Iterator[Callable[..., Future]]:
    """A function that has a head fitted to the rows `indices` of the pool, with the pool's labels
    or with `Answers` of its own, and returns the future of its cell.

    Args:
      setting: for every head.
      folder: where the cells are stored; a head that is finished there is not fitted again.
      pool, test: features and labels, `[N, D]` and `[N]`.
      executor: from `processes`; several pools may share it. None: fit at once in this process.
      network: for heads that are trained on images; they are trained in this process, which has the
        accelerator.
    """
    submitted: dict[str, Future] = {}
    for left in folder.glob(f"{_SHARED}*"):  # By a run that was killed.
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=_SHARED, dir=folder, ignore_cleanup_errors=True
    ) as shared:
        # Memory-mapped files: every process reads the same pages, and a job carries only indices.
        for part, (features, labels) in dict(pool=pool, test=test).items():
            np.save(Path(shared, f"{part}_features.npy"), features)
            np.save(Path(shared, f"{part}_labels.npy"), labels)

        def submit(indices: np.ndarray, answers: Answers | None = None) -> Future:
            cell = name(indices, answers)
            if cell not in submitted:
                finished, job = (
                    cells.read(folder, cell),
                    (setting, folder, Path(shared), indices, network, answers),
                )
                if finished is not None:
                    submitted[cell] = ready(finished | dict(seconds=0.0))
                elif executor is None:
                    submitted[cell] = ready(_fit(*job))
                else:
                    with _unheard():  # It may start a process.
                        submitted[cell] = executor.submit(_fit, *job)
            return submitted[cell]

        try:
            yield submit
        finally:
            # Nobody waits for those that are still being fitted, whose files go.
            for job in submitted.values():
                job.cancel()


@contextmanager
def fitting_each(
    heads: Sequence[str],
    num_classes: int,
    folder: Path,
    *arrays: tuple[np.ndarray, np.ndarray],
    executor: Executor | None,
) -> Iterator[dict[str, Callable[..., Any]]]:
    """`fitting` for several heads, each with a folder of its own in `folder`: their functions by
    name."""
    with ExitStack() as stack:
        yield {
            head: stack.enter_context(
                fitting(
                    Setting(num_classes, recalls=True, head=head),
                    cells.folder(folder / head, dict(head=head)),
                    *arrays,
                    executor=executor,
                )
            )
            for head in heads
        }


def ready(value: Any) -> Future:
    """A future that is already done."""
    future: Future = Future()
    future.set_result(value)
    return future


@contextmanager
def _unheard() -> Iterator[None]:
    """Control-C, which a terminal sends to every process, is for this one to handle: those that are
    started in the block never hear it, not even while they import JAX."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, where `_start` has to do.
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start() -> None:
    """Prepares a worker process."""
    # Heads only need the CPU here: leave alone the accelerator that the main process holds.
    jax.config.update("jax_platforms", "cpu")
    threadpool_limits(1, user_api="blas")
    # Everything waits for the selection, so it comes first where there are fewer cores than
    # processes.
    if hasattr(os, "nice"):
        os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Ends this process if the main one is killed.
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _fit(
    setting: Setting,
    folder: Path,
    shared: Path,
    indices: np.ndarray,
    network: Any,
    answers: Answers | None,
) -> dict[str, Any]:
    """One head, fitted, tested and stored. Rows are sorted first, so that the same set of rows
    gives the same head whatever its order."""
    started = time.perf_counter()
    order = np.argsort(indices, kind="stable")
    rows = indices[order]
    features, labels, test_features, test_labels = (
        np.load(shared / f"{part}.npy", mmap_mode="r")
        for part in ("pool_features", "pool_labels", "test_features", "test_labels")
    )
    options = dict(
        num_classes=setting.num_classes, C=setting.C, folds=setting.folds, seed=setting.seed
    )
    # A memory-mapped pool is copied only where a head looks at it.
    rest = np.setdiff1d(np.arange(len(labels)), rows) if setting.head == "pseudo" else slice(0)
    own = labels[rows]
    if answers:
        own, test_labels = answers.labels[order], answers.test_labels
    task = classifiers.Task(
        features[rows], own, features[rest], test_features, options, network, rows
    )
    if setting.thresholding:
        # One fit serves both figures.
        fitted = svm.fit(task.features, task.labels, calibrate=True, **options)
        found, moved = (
            classifiers.Fitted(fitted, svm.predict(fitted, test_features)),
            svm.predict(fitted, test_features, thresholding=True),
        )
    else:
        found, moved = classifiers.fit(setting.head, task), None
    head, predicted = found.head, found.predicted

    def percent(metric, predicted) -> float:
        return round(
            100
            * float(metric(np.asarray(test_labels), predicted, num_classes=setting.num_classes)),
            4,
        )

    def by_class() -> dict[str, list[float | None]]:
        table = np.asarray(
            metrics.confusion(np.asarray(test_labels), predicted, num_classes=setting.num_classes)
        )
        right, tested, guessed = np.diagonal(table), table.sum(axis=1), table.sum(axis=0)
        return {
            name: [
                round(100 * float(share), 4) if there else None
                for share, there in zip(shares, tested, strict=True)
            ]
            for name, shares in (
                ("recalls", right / np.maximum(tested, 1)),
                ("f1s", 2 * right / np.maximum(tested + guessed, 1)),
            )
        }

    cell = dict(
        accuracy=percent(metrics.balanced_accuracy, predicted),
        accuracy_thresholded=None if moved is None else percent(metrics.balanced_accuracy, moved),
        macro_f1=percent(metrics.macro_f1, predicted),
        **(by_class() if setting.recalls else {}),
        C=getattr(head, "C", None),
        converged=getattr(head, "converged", True),
        temperature=getattr(head, "temperature", None),
        **({} if found.chosen is None else dict(chosen=found.chosen)),
        **{
            f"unseen_{name}": round(100 * accuracy, 4)
            for name, accuracy in (found.accuracies or {}).items()
        },
        seconds=round(time.perf_counter() - started, 3),
    )
    cells.write(folder, name(indices), cell)
    return cell
