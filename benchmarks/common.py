"""What the benchmarks share: their flags, pools from files, clocks and tables."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from balal import machine

FLAGS = flags.FLAGS
flags.DEFINE_integer("repeats", 3, "Timed runs of each program.", lower_bound=1)
flags.DEFINE_string("features", None, "An .npz file to use instead of a synthetic pool.")
flags.DEFINE_string(
    "out", None, "Folder for a .json file of all figures; without it they are only printed."
)

CORES = machine.cores()
# On one core the processor's time is counted: it is what the clock on the wall shows while nothing
# else runs there.
_clock = time.process_time if CORES == 1 else time.perf_counter


def loaded(path: str, *names: str) -> list[np.ndarray]:
    """Arrays of a file in which a name may begin with `pool_`; features in float32, scaled back
    where they were stored as integers."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[f"pool_{name}" if f"pool_{name}" in file else name] for name in names}
        if "features" in arrays:
            arrays["features"] = (arrays["features"] * file.get("scale", 1)).astype(np.float32)
        return list(arrays.values())


def timed(run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median seconds, and the last result."""
    seconds, result = [], None
    for _ in range(repeats):
        began = _clock()
        result = run()
        seconds.append(_clock() - began)
    return statistics.median(seconds), result


def extra_memory(compiled: Any) -> int:
    """Bytes that a compiled program takes at its peak beside its arguments."""
    analysis = compiled.memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def table(title: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Prints rows of the same columns, and returns them with their title."""
    print(f"\n{title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(_cell(value) for value in row.values())} |", flush=True)
    return dict(workload=title, rows=rows)


def finish(name: str, tables: list[dict[str, Any]]) -> None:
    """Says what all ran on and, with `--out`, writes the tables to `name`.json."""
    versions = dict(
        device=jax.devices()[0].device_kind,
        python=platform.python_version(),
        jax=jax.__version__,
        numpy=np.__version__,
    )
    print(
        f"\ncores {CORES}, {', '.join(f'{what} {version}' for what, version in versions.items())}"
    )
    if FLAGS.out:
        folder = Path(FLAGS.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(
            json.dumps(dict(cores=CORES, **versions, tables=tables), indent=1) + "\n"
        )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)
