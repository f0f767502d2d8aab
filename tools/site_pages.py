"""Hooks of the documentation site (mkdocs.yml): pages from files outside docs/, and a check of the API pages."""

from __future__ import annotations

import ast
import json
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

# MkDocs counts the warnings of its own loggers, and fails if there are any.
log = logging.getLogger("mkdocs.hooks.site_pages")

# File in the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "slurm/README.md": "slurm-scripts.md",
    "recipes/README.md": "recipes.md",
    "examples/first_steps.ipynb": "first-steps.md",
    # All programs of the folder.
    "examples": "examples.md",
}

# The line with which a page includes the documentation of a module or function.
INCLUDED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)

# A Markdown link [text](path#anchor), or an image, to a file of the repository.
LINK = re.compile(r"(?P<start>!?\[(?P<text>[^\]]*)\]\()(?![a-z]+:|#)(?P<path>[^)#\s]+)(?P<end>(?:#[^)\s]*)?\))")
# The same in HTML.
ATTRIBUTE = re.compile(r'(?P<start>(?:src|href)=")(?![a-z]+:|#)(?P<path>[^#"\s]+)(?P<end>(?:#[^"]*)?")')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `PAGES`."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=site_links(page_text(ROOT / source), source)))
    return files


def page_text(path: Path) -> str:
    """Return the Markdown of a page of `PAGES`: of a Markdown file, a notebook, or a folder of programs."""
    if path.is_dir():
        return "\n\n".join(["# Examples", *(program_text(program) for program in sorted(path.glob("*.py")))])
    text = path.read_text(encoding="utf-8")
    return notebook_text(text) if path.suffix == ".ipynb" else text


def program_text(path: Path) -> str:
    """Return the code of a program in Markdown."""
    return f"## {path.name}\n\n```python\n{path.read_text(encoding='utf-8').strip()}\n```"


def notebook_text(text: str) -> str:
    """Return the cells of a notebook and their stored texts in Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [f"```text\n{''.join(output_lines(output)).rstrip()}\n```" for output in cell.get("outputs", ())]
    return "\n\n".join(parts) + "\n"


def output_lines(output: dict[str, Any]) -> list[str]:
    """Return the text of an output of a notebook's cell: what it prints, or the value of its last expression."""
    lines = output["text"] if "text" in output else output["data"]["text/plain"]
    return lines if isinstance(lines, list) else [lines]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page in docs/."""
    path = page.file.src_uri
    return markdown if path in PAGES.values() else site_links(markdown, f"docs/{path}")


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
        The text in which links to files of docs/ and of `PAGES` lead to their pages. A link to another file of the
        repository becomes its text, followed by the path. A link that leads nowhere is unchanged: the build refuses it.
    """
    folder = posixpath.dirname(PAGES.get(source, source.removeprefix("docs/"))) or "."

    def rewritten(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        page = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if page is not None:
            return link["start"] + posixpath.relpath(page, folder) + link["end"]
        if link.re is ATTRIBUTE or target.startswith("..") or not (ROOT / target).exists():
            return link[0]
        return link["text"] if target in link["text"] else f"{link['text']} (`{target}`)"

    return ATTRIBUTE.sub(rewritten, LINK.sub(rewritten, text))


def on_post_build(config: MkDocsConfig) -> None:
    """Warn of each public name that is on no API page."""
    site = Path(config.site_dir) / "api"
    anchors = {name for page in site.glob("*.html") for name in re.findall(r'id="([\w.]+)"', page.read_text("utf-8"))}
    for page in sorted((Path(config.docs_dir) / "api").glob("*.md")):
        for module in INCLUDED.findall(page.read_text("utf-8")):
            missing = [name for name in public_names(module) if f"{module}.{name}" not in anchors]
            if missing:
                log.warning("docs/api/%s: no documentation of %s in %s", page.name, ", ".join(missing), module)


def module_file(module: str) -> Path:
    """Return the file of a module of this repository, which may not exist."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def public_names(module: str) -> list[str]:
    """Return the names in ``__all__`` of a module of this repository, without importing it."""
    file = module_file(module)
    if not file.is_file():
        return []
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    return []
