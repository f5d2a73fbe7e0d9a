"""Which of your photographs should a person label first?

    balal pick photos/ --budget=50
    balal pick photos/ --budget=200 --strategy=core_set --out=results/photos
    balal pick photos/ --answers=results/pick/picks.csv --budget=50
    balal pick photos/ --files=outdoors.txt --budget=50
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
command works round after round; columns of your own, such as notes, are carried over. A picks.csv
with labels or notes that were not passed is never overwritten, and the one before is kept as
picks.before.csv. Commas, semicolons or tabs may separate the columns.

A photograph that was renamed or moved since is found by its content, which the column `sha256`
tells. One that is gone is reported, its line is kept, and the rest goes on.

Files that are damaged or not images are listed, and left out under --skip_damaged. What the network
saw is kept below --cache, so that a second run takes seconds; a run that was stopped continues
where it left off.
"""

import platform
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

import balal
from balal import cost, folder_lock
from balal.atomic_files import together
from balal.cli import answers as answer_files
from balal.cli import image_options, images, inputs, matching, output, remarks, table
from balal.cli.contact_sheet import contact_sheet
from balal.cli.picks_table import carried_over, keep_previous
from balal.strategies import asks_target_model
from balal.wording import first_few, printable


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the command."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    image_options.define_flags(flag_values, tests=False, labels=False)
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
        "file_column", "file", "The column of --answers with the names of the files.", **own
    )
    flags.DEFINE_string("label_column", "label", "The column of --answers with the labels.", **own)
    flags.DEFINE_bool(
        "distinct_labels",
        False,
        "Labels in --answers that differ by case, white space or the like alone are different "
        "classes.",
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
        "The source model's logits for the same rows, [N, K] in .npy or .npz. For a strategy that "
        "asks the target model: those that yours predicts, a column for each label in alphabetical "
        "order.",
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
    if flag_values.strategy is not None:
        check_strategy(flag_values.strategy, flag_values.features)  # before anything is read
    with folder_lock.locked(Path(flag_values.out), first="picks.csv"):
        carry_out(flag_values, words)


def check_strategy(name: str, features: str | None) -> None:
    """ValueError for an unknown strategy, and for one that asks the target model where there are
    photographs alone."""
    if asks_target_model(balal.strategy(name)) and features is None:
        raise ValueError(
            f"--strategy={name} asks the target model, and there is none yet: fit yours to the "
            f"answers, with features that balal extract has written, and name these with "
            f"--features and what it predicts with --logits"
        )


def carry_out(flag_values: flags.FlagValues, words: Sequence[str]) -> None:
    """Reads, picks and writes."""
    out, budget, seed = Path(flag_values.out), flag_values.budget, flag_values.seed
    lines = read_answers(
        flag_values.answers,
        file_column=flag_values.file_column,
        label_column=flag_values.label_column,
        distinct_labels=flag_values.distinct_labels,
    )
    class_names = read_class_names(flag_values.source_classes)
    answer_files.refuse_to_lose(out / "picks.csv", lines)
    options = image_options.read_options(flag_values, words=words)
    with nullcontext() if flag_values.features is not None else images.looked_at(options):
        choice, match = read_choice(flag_values, options, lines)
        left = inputs.asked_once(choice, match.labels)
        inputs.check_budget(choice.name, budget, left=int(left.sum()) - len(match.labels))
        seen, row_of = inputs.look(choice, options, left=left), choice.rows
    default = "ent_inv_div" if seen.pool.scores is not None and not match.labels else "posterior"
    strategy = flag_values.strategy or default
    source_classes = name_source_classes(seen.pool, class_names)
    rows, reasons = pick(
        strategy,
        seen.pool,
        {row_of[file]: label for file, label in match.labels.items()},
        budget=budget,
        key=jax.random.key(seed),
        source_names=class_names,
    )
    picked = [
        dict(
            rank=rank,
            file=choice.ids[row],
            label="",
            reason=reason,
            source_class=source_classes[row],
        )
        for rank, (row, reason) in enumerate(zip(rows, reasons, strict=True), start=1)
    ]
    results = dict(
        experiment="pick",
        configuration=dict(strategy=strategy, budget=budget, seed=seed, versions=versions()),
        features=seen.made_from,
        skipped=list(choice.photographs.skipped) if choice.photographs else [],
        answers=match.labels,
        moved=match.moved,
        changed=match.changed,
        gone=match.gone,
        picks=picked,
    )
    page = None
    if choice.photographs is not None:
        page = contact_sheet(choice.photographs, picked, f"{strategy} on {seen.by}")
    # Once more: somebody may have gone on labelling while the images were looked at.
    answer_files.refuse_to_lose(out / "picks.csv", lines)
    new = carried_over(lines, match.files, picked, choice.contents)
    keep_previous(out / "picks.csv", new)
    with together(out, first="picks.csv") as staged:
        table.write(staged / "picks.csv", new)
        output.write_json(staged / "results.json", results)
        if page is not None:
            output.write_text(staged / "contact_sheet.html", page)
    print(summary(choice, picked, strategy, match=match, out=out))
    if seen.kept is not None:
        print(f"What the network saw is kept in {seen.kept}.")


def read_choice(
    flag_values: flags.FlagValues,
    options: image_options.ImageOptions,
    lines: Sequence[answer_files.Answer],
) -> tuple[inputs.Choice, matching.Match]:
    """What there is to choose from, and which of it the answers are about. What names alone can
    tell is told before a photograph is opened."""
    path = Path(flag_values.answers or "")

    def early(ids: Sequence[str], listed: Collection[str], name: str) -> Collection[str]:
        find = matching.finder(ids)
        answered = {find(line.file) for line in lines if line.label.strip()} - {None}
        inputs.check_budget(name, flag_values.budget, left=len(set(listed) - answered))
        if not options.skip_damaged:
            matching.refuse_unknown(path, lines, ids, name)
        return [file for file in answered if file is not None]

    if flag_values.features is None:
        images.refuse_network(options)
    choice = inputs.read(
        options,
        flag_values.features,
        logits=flag_values.logits,
        ids=flag_values.ids,
        keep_logits="logits" in balal.strategy(flag_values.strategy or "posterior").needs,
        early=early,
    )
    match = matching.match(
        path,
        lines,
        choice.ids,
        choice.name,
        contents=choice.contents,
        damaged=choice.photographs.skipped if choice.photographs else (),
    )
    return choice, match


def read_answers(
    path: str | None, *, file_column: str, label_column: str, distinct_labels: bool
) -> list[answer_files.Answer]:
    """The lines of --answers; ValueError where none has a label."""
    if path is None:
        return []
    lines = answer_files.read(
        Path(path),
        file_column=file_column,
        label_column=label_column,
        distinct_labels=distinct_labels,
    )
    if not any(line.label.strip() for line in lines):
        raise ValueError(
            f"{path} has no label yet: fill in the column {label_column} of some lines, in "
            f"whatever words you like"
        )
    return lines


def read_class_names(path: str | None) -> list[str]:
    """The names of the source classes, none where no file is named."""
    return [] if path is None else table.read_text(Path(path)).splitlines()


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
    num_classes = len(classes) + 1
    cost.check_memory(strategy, pool, num_classes=num_classes, budget=budget, size=budget)
    state = balal.init(
        strategy,
        pool,
        budget=budget,
        num_classes=num_classes,
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
    match: matching.Match,
    out: Path,
) -> str:
    """What is printed at the end: the first picks with their reasons, what became of the answers
    and of the files, and where everything is."""
    after = f", after {len(match.labels)} answers" if match.labels else ""
    lines = [f"{len(picked)} of {len(choice.ids)} images of {choice.name}, by {name}{after}:", ""]
    files = [printable(line["file"]) for line in picked[:10]]
    for line, file in zip(picked[:10], files, strict=True):
        lines.append(f"{line['rank']:5}  {file:{max(map(len, files))}}  {line['reason']}")
    if len(picked) > 10:
        lines.append(f"       and {len(picked) - 10} more")
    look = "" if choice.photographs is None else f"Look at them in {out / 'contact_sheet.html'}. "
    if choice.photographs is not None and remarks.left_out(choice.photographs):
        lines.append(remarks.left_out(choice.photographs))
    copies = [f"{file} of {first}" for file, first in choice.copies.items()]
    if copies:
        lines.append(f"\nCopies, which are not asked again ({len(copies)}): {first_few(copies)}.")
    moved = [f"{file} (was {before or 'nameless'})" for before, file in match.moved.items()]
    if moved:
        lines.append(
            f"\nFound by their content under another name ({len(moved)}): {first_few(moved)}."
        )
    if match.changed:
        lines.append(
            f"\nChanged since they were picked ({len(match.changed)}): {first_few(match.changed)}. "
            f"Their labels still count: delete those that are wrong now."
        )
    if match.gone:
        lines.append(
            f"\nLabelled, but gone or damaged ({len(match.gone)}): {first_few(match.gone)}. Their "
            f"lines are kept, and nothing is learnt from them."
        )
    return "\n".join([*lines, "", f"{look}Label them in {out / 'picks.csv'}."])
