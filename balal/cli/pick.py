"""Which of your photographs should a person label first?

    balal pick photos/ --budget=50
    balal pick photos/ --budget=200 --strategy=core_set --out=results/photos
    balal pick photos/ --answers=results/pick/picks.csv --budget=50
    balal pick --features=f.npy --logits=l.npy --ids=ids.txt --budget=50
    balal pick --features=features/photos --strategy=posterior

A network trained on ImageNet looks at every image once, and the strategy chooses by what it saw;
`python -m pip install 'balal[photos]'` installs all that photographs need. With --features no
network is run: give an .npy file [N, D], an .npz file with `features` and perhaps `logits` and
`ids`, or a folder that `balal extract` made. Its rows go by the names in --ids, or by number.

Written to --out: picks.csv, the files in the order in which they should be labelled, each with its
reason; contact_sheet.html, the same to look at in any browser; results.json. Fill in the column
`label` of picks.csv and pass it as --answers for more: what was learnt from the answers then
decides what is asked next. The new picks.csv begins with the answers so far, so that the same
command works round after round. A picks.csv with labels that were not passed is never overwritten.

Files that are damaged or not images are listed, and left out under --skip_damaged. What the network
saw is kept below --cache, so that a second run takes seconds; a run that was stopped continues
where it left off.
"""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

import balal
from balal.cli import answers as answer_files
from balal.cli import images, inputs, output
from balal.cli.contact_sheet import contact_sheet


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the command."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    images.define_flags(flag_values, tests=False)
    flags.DEFINE_integer("budget", 50, "How many images to pick.", lower_bound=1, **own)
    flags.DEFINE_string(
        "strategy",
        None,
        "The strategy: a name, or your own as mine.py:Largest or package.module:VALUE. Default: "
        "ent_inv_div; posterior once there are answers, or without scores.",
        **own,
    )
    flags.DEFINE_string(
        "answers",
        None,
        "A picks.csv whose column `label` has been filled in, wholly or in part.",
        **own,
    )
    flags.DEFINE_string(
        "features",
        None,
        "Features of your own, [N, D] in an .npy or .npz file, or a folder made by balal extract.",
        **own,
    )
    flags.DEFINE_string(
        "logits",
        None,
        "The source model's logits for the same rows, [N, K] in .npy or .npz.",
        **own,
    )
    flags.DEFINE_string(
        "ids", None, "A text file with the file name, or any name, of each row on a line.", **own
    )
    flags.DEFINE_string(
        "source_classes",
        None,
        "A text file with the names of the source classes, one a line, for the reasons.",
        **own,
    )
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)
    flags.DEFINE_string("out", "results/pick", "Folder for everything that is written.", **own)


def main(flag_values: flags.FlagValues, words: Sequence[str]) -> None:
    """Runs the command. words: the arguments that are not flags."""
    out, budget, seed = Path(flag_values.out), flag_values.budget, flag_values.seed
    if flag_values.strategy is not None:
        balal.strategy(flag_values.strategy)  # before anything is read
    answers = read_answers(flag_values.answers)
    class_names = read_class_names(flag_values.source_classes)
    answer_files.refuse_to_lose(out / "picks.csv", answers)
    options = images.read_options(flag_values, words=words)
    choice = inputs.read(
        options, flag_values.features, logits=flag_values.logits, ids=flag_values.ids
    )
    inputs.check_answers(choice, answers, budget=budget)
    seen, row_of = inputs.look(choice, options), choice.rows
    default = "ent_inv_div" if seen.pool.scores is not None and not answers else "posterior"
    strategy = flag_values.strategy or default
    source_classes = name_source_classes(seen.pool, class_names)
    rows, reasons = pick(
        strategy,
        seen.pool,
        {row_of[file]: label for file, label in answers.items()},
        budget=budget,
        key=jax.random.key(seed),
        source_names=class_names,
    )

    def line(row: int, rank: int | None, label: str, reason: str) -> dict[str, Any]:
        return dict(
            rank=rank,
            file=choice.ids[row],
            label=label,
            reason=reason,
            source_class=source_classes[row],
        )

    answered = [line(row_of[file], None, label, "labelled") for file, label in answers.items()]
    picked = [
        line(row, rank, "", reason)
        for rank, (row, reason) in enumerate(zip(rows, reasons, strict=True), start=1)
    ]
    out.mkdir(parents=True, exist_ok=True)
    # Once more: somebody may have gone on labelling while the images were looked at.
    answer_files.refuse_to_lose(out / "picks.csv", answers)
    output.write_csv(out / "picks.csv", answered + picked)
    if choice.photographs is not None:
        page = contact_sheet(choice.photographs, picked, f"{strategy} on {seen.by}")
        output.write_text(out / "contact_sheet.html", page)
    results = dict(
        experiment="pick",
        configuration=dict(strategy=strategy, budget=budget, seed=seed, versions=versions()),
        features=seen.made_from,
        skipped=list(choice.photographs.skipped) if choice.photographs else [],
        answers=answers,
        picks=picked,
    )
    output.write_json(out / "results.json", results)
    print(summary(choice, picked, strategy, answers=len(answers), out=out))
    if seen.kept is not None:
        print(f"What the network saw is kept in {seen.kept}.")


def read_answers(path: str | None) -> dict[str, str]:
    """Labels by file name; ValueError where the file has none."""
    if path is None:
        return {}
    answers = answer_files.read(Path(path))
    if not answers:
        raise ValueError(
            f"{path} has no label yet: fill in the column label of some lines, in whatever words "
            f"you like"
        )
    return answers


def read_class_names(path: str | None) -> list[str]:
    """The names of the source classes, none where no file is named."""
    return [] if path is None else answer_files.read_text(Path(path)).splitlines()


def pick(
    name: str,
    pool: balal.Pool,
    answers: Mapping[int, str],
    *,
    budget: int,
    key: jax.Array,
    source_names: Sequence[str] = (),
) -> tuple[list[int], list[str]]:
    """The rows to label, in order, and why each.

    Args:
      name: of the strategy.
      answers: labels by row.
      budget: how many rows.
      key: for everything random.
      source_names: those of the source classes, for the reasons.
    """
    strategy, classes = balal.strategy(name), sorted(set(answers.values()))
    labels = [classes.index(label) for label in answers.values()]
    state = balal.init(
        strategy,
        pool,
        budget=budget,
        num_classes=len(classes) + 1,
        key=key,
        labelled=(np.array(list(answers)), np.array(labels)) if answers else None,
    )
    picks, state = balal.ask(strategy, pool, state, size=budget)
    why = balal.reasons(strategy, pool, state, target_names=classes, source_names=source_names)
    return np.asarray(picks).tolist(), why


def name_source_classes(pool: balal.Pool, names: Sequence[str]) -> list[str]:
    """The source class that each row was taken for: its name where there are names, else its
    number; empty where there are no scores."""
    if pool.scores is None:
        return [""] * pool.num_rows
    numbers = np.asarray(pool.scores.predicted).tolist()
    last = max(numbers)
    if names and last >= len(names):
        raise ValueError(
            f"--source_classes has {len(names)} lines, but the source model has a class {last}: "
            f"write one name a line"
        )
    return [names[int(number)] if names else f"source class {number}" for number in numbers]


def versions() -> dict[str, str]:
    """The versions of what the picks depend on."""
    packages = {name: version(name) for name in ("jax", "jaxlib", "numpy")}
    return {"balal": balal.__version__, "python": platform.python_version(), **packages}


def summary(
    choice: inputs.Choice,
    picked: Sequence[Mapping[str, Any]],
    name: str,
    *,
    answers: int,
    out: Path,
) -> str:
    """What is printed at the end: the first picks with their reasons, and where everything is."""
    after = f", after {answers} answers" if answers else ""
    lines = [f"{len(picked)} of {len(choice.ids)} images of {choice.name}, by {name}{after}:", ""]
    longest = max(len(line["file"]) for line in picked[:10])
    for line in picked[:10]:
        lines.append(f"{line['rank']:5}  {line['file']:{longest}}  {line['reason']}")
    if len(picked) > 10:
        lines.append(f"       and {len(picked) - 10} more")
    look = "" if choice.photographs is None else f"Look at them in {out / 'contact_sheet.html'}. "
    if choice.photographs is not None and choice.photographs.skipped:
        lines.append(images.left_out(choice.photographs))
    return "\n".join([*lines, "", f"{look}Label them in {out / 'picks.csv'}."])
