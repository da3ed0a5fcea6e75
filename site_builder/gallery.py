"The gallery: every numbered figure of the stories, each leading to its place and its code."

from html import escape
from pathlib import Path

from bs4 import BeautifulSoup

PLACE = "<div id=\"gallery\"></div>"  # of the figures in the page that Sphinx renders


def figures(page: Path):
    "The numbered figures of a rendered page: anchor, image, caption."
    for figure in BeautifulSoup(page.read_text(), "html.parser").find_all("figure"):
        image, caption = figure.find("img"), figure.find("figcaption")
        if image and caption and figure.get("id"):
            yield figure["id"], image["src"], caption.get_text(" ", strip=True).removesuffix("#").strip(" ¶")


def fill(site: Path, stories: dict[str, str]):  # address of each story, and its title
    "Put the figures of the stories into the gallery, in reading order; images are those that are there already."
    cards = ""
    for address, title in stories.items():
        for anchor, image, caption in figures(site / address):
            words = escape(caption)
            picture = f'<img src="{image.removeprefix("../")}" alt="{words}">'
            said = f"<span><b>{escape(title)}</b><br>{words}</span>"
            cards += f'<a class="card" href="{address}#{anchor}">{picture}{said}</a>\n'
    page = site / "gallery.html"
    page.write_text(page.read_text().replace(PLACE, f'<div class="gallery">\n{cards}</div>'))
