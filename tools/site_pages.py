"""Hooks of the documentation site (mkdocs.yml): pages from files outside docs/, and a check of the API pages."""

from __future__ import annotations

import ast
import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

# MkDocs counts the warnings of its own loggers, and fails if there are any.
log = logging.getLogger("mkdocs.hooks.site_pages")

# File in the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "slurm/README.md": "slurm-scripts.md",
}

# The line with which a page includes the documentation of a module or function.
INCLUDED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)

# The target of a Markdown link or image without spaces, or of an HTML attribute; never an address or an anchor.
LINK = re.compile(r'(?P<start>\]\(|(?:src|href)=")(?![a-z]+:|#)(?P<path>[^)#"\s]+)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `PAGES`."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=site_links(text, source)))
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page in docs/ to the pages of `PAGES`."""
    source = page.file.src_uri  # type: ignore[attr-defined]
    return markdown if source in PAGES.values() else site_links(markdown, f"docs/{source}")


def site_links(text: str, source: str) -> str:
    """Rewrite the links of a file of the repository for the site.

    Parameters
    ----------
    text : str
        Markdown.
    source : str
        The file's path in the repository.

    Returns
    -------
    str
        The text in which links to files of docs/ and of `PAGES` lead to their pages. Other links are unchanged, and the
        build refuses those that lead nowhere.
    """
    page = PAGES.get(source, source.removeprefix("docs/"))

    def rewritten(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        place = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if place is None:
            return link[0]
        return link["start"] + posixpath.relpath(place, posixpath.dirname(page) or ".")

    return LINK.sub(rewritten, text)


def on_post_build(config: MkDocsConfig) -> None:
    """Warn of each public name that is on no API page."""
    pages = sorted((Path(config.docs_dir) / "api").glob("*.md"))
    site = Path(config.site_dir) / "api"
    anchors = {anchor for page in site.glob("*.html") for anchor in re.findall(r'id="([\w.]+)"', page.read_text("utf-8"))}
    for page in pages:
        for module in INCLUDED.findall(page.read_text("utf-8")):
            missing = [name for name in public_names(module) if f"{module}.{name}" not in anchors]
            if missing:
                log.warning("docs/api/%s: no documentation of %s in %s", page.name, ", ".join(missing), module)


def public_names(module: str) -> list[str]:
    """Return the names in ``__all__`` of a module of this repository, without importing it; none if it has no such list."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.is_file():
        return []
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    return []
