"""Draw and print: plain functions on bytes that know nothing of requests, items or the database."""

import random
from collections.abc import Sequence
from io import BytesIO
from typing import IO

from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont, ImageOps

DUSK = [((38, 54, 106), (246, 173, 119)), ((22, 78, 99), (250, 214, 165)), ((76, 46, 98), (247, 140, 130))]


def draw_landscape(size: tuple[int, int] = (1200, 750)) -> bytes:
    """Draw hills at dusk, different each time, as a JPEG."""
    return _jpeg(_landscape(size))


def draw_postcard(greeting: str) -> bytes:
    """Draw hills with the greeting written on them, as a JPEG."""
    picture = _landscape((900, 600))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=min(64, 1500 // max(len(greeting), 1)))
    pen.text((450, 110), greeting, "white", font, anchor="mm", stroke_width=3, stroke_fill=(30, 30, 60))
    return _jpeg(picture)


def shrink(picture: IO[bytes], width: int) -> bytes:
    """Scale a picture down to `width` pixels, upright, as a JPEG."""
    with Image.open(picture) as original:
        upright = ImageOps.exif_transpose(original).convert("RGB")
        upright.thumbnail((width, width * 4))
        return _jpeg(upright)


def print_album(pictures: Sequence[bytes], address: str) -> bytes:
    """Print one picture a page, as a PDF that links to the gallery's address."""
    pdf = FPDF(format="A4")
    pdf.set_title("Album")
    pdf.set_font("Helvetica", size=12)
    for number, picture in enumerate(pictures, start=1):
        pdf.add_page()
        pdf.cell(text=f"Picture {number} of {len(pictures)}, from {address}", link=address)
        pdf.image(BytesIO(picture), x=20, y=30, w=170, h=220, keep_aspect_ratio=True)
    return bytes(pdf.output())


def draw_sheet(pictures: Sequence[bytes], width: int, columns: int) -> bytes:
    """Draw pictures side by side on a sheet of so many pixels, as a JPEG."""
    side = width // columns
    rows = max(1, -(-len(pictures) // columns))
    sheet = Image.new("RGB", (width, rows * side), "white")
    for number, picture in enumerate(pictures):
        with Image.open(BytesIO(picture)) as small:
            sheet.paste(small, (number % columns * side, number // columns * side))
    return _jpeg(sheet)


def _landscape(size: tuple[int, int]) -> Image.Image:
    width, height = size
    top, bottom = random.choice(DUSK)
    sky = Image.linear_gradient("L").resize(size)
    picture = ImageOps.colorize(sky, top, bottom)
    pen = ImageDraw.Draw(picture)
    for distance in range(4, 0, -1):
        shade = tuple(channel * (distance + 1) // 7 for channel in top)
        ridge = [random.uniform(0.4, 0.65) + (4 - distance) * 0.09 for _ in range(7)]
        line = [(width * step / 6, height * share) for step, share in enumerate(ridge)]
        pen.polygon([(0, height), *line, (width, height)], fill=shade)
    return picture


def _jpeg(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
