"""Pictures of every view: light and dark, in both languages, narrow and wide."""

import pathlib
import sys

from browser import Browser
from fleet import Fleet
from views import views

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
with Fleet() as fleet, Browser() as browser:
    for lang in ("en", "de"):
        for dark in (False, True):
            for width in (320, 1280):
                with browser.visitor(lang=lang, dark=dark, width=width) as visitor:
                    visitor.open(fleet.link())
                    for name, path in views(fleet).items():
                        visitor.go(path)
                        shade = "dark" if dark else "light"
                        visitor.page.screenshot(path=folder / f"{name}-{lang}-{shade}-{width}.png", full_page=True)
print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")
