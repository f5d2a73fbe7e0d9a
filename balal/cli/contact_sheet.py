"""The picks as a page to look at, in any browser and on paper."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from balal import data
from balal.extras import Extra

# Pixels a side, at most.
_THUMBNAIL = 200


def contact_sheet(images: data.Images, picked: Sequence[Mapping[str, Any]], title: str) -> str:
    """One HTML page with every pick in order, thumbnails included.

    Args:
      images: those that the picks are from.
      picked: the `rank`, `file` and `reason` of each.
      title: what chose them.
    """
    rows = {name: row for row, name in enumerate(images.ids)}
    cards = "\n".join(_card(images.read(rows[line["file"]]), line) for line in picked)
    heading = f"{len(picked)} of {len(images)} images of {images.name}"
    return _PAGE.format(heading=html.escape(heading), title=html.escape(title), cards=cards)


def _card(image: np.ndarray, line: Mapping[str, Any]) -> str:
    file, reason = html.escape(line["file"]), html.escape(line["reason"])
    return (
        f'<figure><img src="data:image/jpeg;base64,{_thumbnail(image)}" alt="">'
        f"<figcaption><b>{line['rank']}</b> {file}<br><small>{reason}</small></figcaption></figure>"
    )


def _thumbnail(image: np.ndarray) -> str:
    """A small JPEG of an image, in base64."""
    with Extra("photos"):
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
  main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1.2rem;
    margin-top: 1.5rem; }}
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
