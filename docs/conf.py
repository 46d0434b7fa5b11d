"""The documentation as a site: ``make docs`` builds it into ``build/docs``, without a network.

The notebooks are run for it, each in a temporary folder, unless their code is as before; git has them without output.

The navigation is the table of ``index.md``: a row in bold begins a group, and each link in a row is a page of this
group. The pages stay plain Markdown, so that they read as well on GitHub.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
REPOSITORY = DOCS.parent
sys.path.insert(0, str(REPOSITORY))

import hpctrain  # noqa: E402

project = "hpctrain"
version = release = hpctrain.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["examples"]
root_doc = "index"
myst_heading_anchors = 4
numpydoc_show_class_members = False
autodoc_typehints = "none"  # numpydoc's sections have the types in words

nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # seconds for one cell: a busy machine takes its time
nb_merge_streams = True

html_theme = "furo"
html_title = f"hpctrain {release}"
html_static_path = ["img/site.css"]
html_css_files = ["site.css"]
html_copy_source = False
GALLERY = REPOSITORY / "build" / "gallery-site"
html_extra_path = [str(GALLERY)] if GALLERY.exists() else []  # the pages that ``make gallery`` has made

LINK = re.compile(r"\[[^\]]*\]\(([\w/-]+)\.(?:md|ipynb)\)")


def navigation() -> list[tuple[str, list[str]]]:
    """Return the groups of the table in ``index.md``: the name of each, and its pages in their order."""
    groups: list[tuple[str, list[str]]] = []
    seen = set()
    for line in (DOCS / "index.md").read_text(encoding="utf-8").splitlines():
        if group := re.match(r"\| \*\*(.+)\*\* \| \|", line):
            groups.append((group[1], []))
        elif line.startswith("| ") and groups:
            new = [name for name in dict.fromkeys(LINK.findall(line)) if name not in seen]
            groups[-1][1].extend(new)
            seen.update(new)
    return groups


def gallery_links() -> str:
    """Return links to the pages of the gallery, or a note that they have not been made."""
    pages = sorted(path.relative_to(GALLERY) for path in GALLERY.rglob("*.html"))
    if not pages:
        return "`make gallery` makes them, before `make docs`."
    shown = [f'<li><a href="{page.as_posix()}">{page.relative_to("gallery").as_posix()}</a></li>' for page in pages]
    return "\n".join(["<ul>", *shown, "</ul>"])


def _prepare(app: object, name: str, source: list[str]) -> None:
    """Add the navigation to the first page; files outside ``docs/`` become downloads, which the site contains."""
    text = source[0] if "/" in name else re.sub(r"\]\(\.\./(?!docs/)", "](path:../", source[0])
    if name == root_doc:
        for group, pages in navigation():
            text += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {group}", "", *pages, "```", ""])
    source[0] = text.replace("<!-- pages -->", gallery_links())


def _prepare_notebooks(folder: Path) -> None:
    """Let notebooks import and call this checkout, without the settings that a user has for IPython.

    Parameters
    ----------
    folder : Path
        For settings of our own: without them a kernel warns that it listens on this machine.
    """
    for name, places in (("PYTHONPATH", [REPOSITORY]), ("PATH", [REPOSITORY / "bin", Path(sys.executable).parent])):
        os.environ[name] = os.pathsep.join([*map(str, places), *filter(None, [os.environ.get(name)])])
    settings = folder / "ipython" / "profile_default" / "ipython_kernel_config.py"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("c.IPKernelApp.log_level = 40\n", encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    os.environ["TTY_COMPATIBLE"] = "0"  # a page shows no progress bars


def setup(app: object) -> None:
    """Connect our step to Sphinx, which calls this."""
    app.connect("source-read", _prepare)  # type: ignore[attr-defined]
    _prepare_notebooks(Path(app.doctreedir))  # type: ignore[attr-defined]
