"""The page's HTML: page.html with what there is to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

from rmpe_legacy.pose.published import RECIPES, default_published


def page(detectors: Iterable[str], poses: Mapping[str, Path], max_upload: int, note: str = "") -> str:
    """Return the page.

    Args:
        detectors: Names of the detectors, the default first.
        poses: The same for the pose networks, each with its weights file.
        max_upload: In bytes.
        note: What a person should know first.
    """
    values = {
        "detectors": "".join(f"<option>{escape(name)}</option>" for name in detectors),
        "poses": "".join(f'<option value="{escape(name)}" data-published="{default_published(weights)}">{escape(name)}'
                         "</option>" for name, weights in poses.items()),
        "recipes": "".join(f'<option value="{escape(recipe.name)}" data-threshold="{recipe.threshold:g}">'
                           f"{escape(recipe.name)}: {escape(recipe.program)}</option>" for recipe in RECIPES.values()),
        "max-upload": str(max_upload),
        "note": f'<p class="soft" id="note">Note: {escape(note)}.</p>' if note else "",
    }
    text = files(__package__).joinpath("page.html").read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"<!-- {name} -->", value)
    return text
