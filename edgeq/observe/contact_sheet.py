"""What a contact sheet shows, as JSON -> one HTML page without scripts, or one PNG."""

from __future__ import annotations

import base64
import binascii
import io
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from edgeq.observe.charts.marks import printable

MEDIA = ("image/png", "image/jpeg")
ADDED = "added by a person"
BEFORE = "before"  # any drift
PIXELATED = 48  # px: smaller pictures are enlarged without smoothing
COLUMNS, CELL, TEXT, EDGE = 8, 140, 34, 12  # of a PNG, px
PAPER, GROUND, INK, DIM = "#ffffff", "#f1f3f5", "#1a1d21", "#5a626c"

Sheet = Mapping[str, Any]


def sheet_html(name: str, sheet: Sheet) -> str:
    """Return the page; every text from outside is escaped."""
    template = Template(
        resources.files(__package__).joinpath("contact_sheet.html").read_text("utf-8")
    )
    groups = _groups(sheet["samples"])
    return template.substitute(
        title=printable(f"{name}: samples"),
        name=printable(name),
        counted=printable(_counted(sheet)),
        displayed="".join(f"<li>{printable(line)}</li>" for line in _displayed(sheet)),
        groups="".join(_group_html(heading, rows) for heading, rows in groups.items())
        or "<p>There is no sample yet.</p>",
    )


def _counted(sheet: Sheet) -> str:
    samples, total = sheet["samples"], sheet["total"]
    held_out = sum(bool(sample["held_out"]) for sample in samples)
    which = "All" if len(samples) == total else f"The newest {len(samples)} of"
    return (
        f"{which} {total} samples; {held_out} of those shown are held out: "
        "they judge an engine and calibrate none."
    )


def _displayed(sheet: Sheet) -> list[str]:
    return [f"{name}: {words}" for name, words in sheet["inputs"].items()]


def _groups(samples: Sequence[Sheet]) -> dict[str, list[Sheet]]:
    """Return the samples by where they are from, in the order given."""
    groups: dict[str, list[Sheet]] = {}
    for sample in samples:
        groups.setdefault(_heading(sample), []).append(sample)
    return groups


def _heading(sample: Sheet) -> str:
    if sample["origin"] == "added":
        return ADDED
    stratum = str(sample["stratum"])
    return "captured before any drift" if stratum == BEFORE else f"captured in the drift {stratum}"


def _group_html(heading: str, samples: Sequence[Sheet]) -> str:
    cards = "".join(_card(sample) for sample in samples)
    return (
        f"<section><h2>{printable(heading[:1].upper() + heading[1:])} "
        f'<span class="dim">{len(samples)}</span></h2><ul class="sheet">{cards}</ul></section>'
    )


def _card(sample: Sheet) -> str:
    when, held_out = _clock(sample["time"]), bool(sample["held_out"])
    pictures = "".join(_picture(sample, picture) for picture in sample["pictures"])
    mark = '<span class="tag held">held out</span>' if held_out else '<span class="tag">fit</span>'
    return (
        f"<li><figure>{pictures}<figcaption><time>{printable(when)}</time>{mark}"
        f"<code>{printable(str(sample['id'])[:8])}</code></figcaption></figure></li>"
    )


def _picture(sample: Sheet, picture: Sheet) -> str:
    media = picture["media"] if picture["media"] in MEDIA else MEDIA[0]
    is_map = bool(picture["is_map"])
    is_small = is_map or max(picture["width"], picture["height"]) <= PIXELATED
    css = "small map" if is_map else "small" if is_small else "picture"
    described = f"{picture['input']} {picture['shape']} of {_clock(sample['time'])}"
    return (
        f'<img class="{css}" alt="{printable(described)}" '
        f'title="{printable(described)}" '
        f'src="data:{media};base64,{printable(str(picture["content"]))}">'
    )


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


# ---- as one picture


def sheet_png(name: str, sheet: Sheet) -> bytes:
    """Return the samples' first inputs as a PNG."""
    samples = list(sheet["samples"])
    columns = min(COLUMNS, max(len(samples), 4))
    rows = -(-len(samples) // columns)
    width = 2 * EDGE + columns * (CELL + EDGE)
    height = 4 * EDGE + 2 * TEXT + rows * (CELL + TEXT + EDGE)
    paper = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(paper)
    pen.text((EDGE, EDGE), _plain(f"{name}: {_counted(sheet)}"), INK, _font(14))
    private = "Private: these are real inputs of this box. " + "; ".join(_displayed(sheet))
    pen.text((EDGE, EDGE + 22), _plain(private), DIM, _font(12))
    for place, sample in enumerate(samples):
        left = EDGE + place % columns * (CELL + EDGE)
        top = 3 * EDGE + TEXT + place // columns * (CELL + TEXT + EDGE)
        _paste(paper, pen, sample, left, top)
    file = io.BytesIO()
    paper.save(file, "PNG")
    return file.getvalue()


def _paste(
    paper: Image.Image, pen: ImageDraw.ImageDraw, sample: Sheet, left: int, top: int
) -> None:
    pen.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=GROUND)
    if sample["pictures"] and (image := _opened(sample["pictures"][0])) is not None:
        factor = CELL / max(image.size)
        size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
        is_map = bool(sample["pictures"][0]["is_map"])
        size = (CELL, CELL) if is_map else size
        is_small = is_map or max(image.size) <= PIXELATED
        filter = Image.Resampling.NEAREST if is_small else Image.Resampling.BILINEAR
        drawn = image.resize(size, filter)
        place = (left + (CELL - size[0]) // 2, top + (CELL - size[1]) // 2)
        paper.paste(drawn, place, drawn)
    kind = "held out" if sample["held_out"] else "fit"
    origin = "added" if sample["origin"] == "added" else str(sample["stratum"]) or "captured"
    pen.text((left, top + CELL + 3), _plain(_clock(sample["time"])), INK, _font(12))
    pen.text((left, top + CELL + 17), _plain(f"{kind}, {origin}"), DIM, _font(11))


def _opened(picture: Sheet) -> Image.Image | None:
    """Return a thumbnail, None where it is no PNG or JPEG."""
    try:
        content = base64.b64decode(picture["content"], validate=True)
        return Image.open(io.BytesIO(content), formats=("PNG", "JPEG")).convert("RGBA")
    except (OSError, ValueError, binascii.Error):
        return None


def _plain(text: str) -> str:
    """Letters that the font has: others would be boxes."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
