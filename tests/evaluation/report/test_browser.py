"""Reports in a real browser: no message in its console, no request, no page wider than the screen; on paper."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from comparison.made_comparison import make_comparison
from made_runs import Made, log_lines, make_run

from rcdp_hpc.cli import main

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium")

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
           "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0", "--window-size=1300,1000",
           "--virtual-time-budget=5000")  # fmt: skip
# What the browser asks for itself.
OF_THE_BROWSER = ("google.com", "googleapis.com", "gstatic.com")
WIDTHS = (400, 1200)
# Shows pages in frames, and reports of each its width, what sticks out of it, and pictures of no size.
FRAMES = """<!DOCTYPE html><html><body>{frames}<p id="out"></p><script>
onload = () => {{
  const found = [...document.querySelectorAll('iframe')].map(frame => {{
    const page = frame.contentDocument, width = page.documentElement.clientWidth;
    const wide = [...page.querySelectorAll('body *')].filter(
      one => one.getBoundingClientRect().right > width + 1 && !one.closest('.scroll'));
    const flat = [...page.querySelectorAll('figure > svg')].filter(one => one.getBoundingClientRect().height < 20);
    return {{page: frame.src, width: page.documentElement.scrollWidth, screen: width,
            wide: wide.map(one => one.tagName), flat: flat.length, sections: page.querySelectorAll('section').length}};
  }});
  document.getElementById('out').textContent = JSON.stringify(found);
}}</script></body></html>"""


@dataclass
class Seen:
    """What the browser reports of the pages that it opened.

    Attributes
    ----------
    pages : list of dict
    console : list of str
    requests : list of str
        Addresses outside the file system.
    """

    pages: list[dict]
    console: list[str]
    requests: list[str]


def browse(folder: Path, pages: list[Path]) -> Seen:
    frames = "".join(
        f'<iframe src="{html.escape(page.as_uri())}" width="{width}" height="900" style="border:0"></iframe>'
        for page in pages
        for width in WIDTHS
    )
    (folder / "frames.html").write_text(FRAMES.format(frames=frames))
    done = call(folder, f"--log-net-log={folder / 'net.json'}", "--dump-dom", (folder / "frames.html").as_uri())
    out = re.search(r'<p id="out">(.*?)</p>', done.stdout)
    assert out is not None, done.stderr[-2000:]
    events = json.loads((folder / "net.json").read_text())["events"]
    addresses = {event["params"]["url"] for event in events if "url" in (event.get("params") or {})}
    outside = [one for one in addresses if urlsplit(one).scheme in ("http", "https", "ws", "wss", "ftp")]
    return Seen(
        json.loads(html.unescape(out[1])),
        re.findall(r"CONSOLE.*", done.stderr),
        [one for one in outside if not (urlsplit(one).hostname or "").endswith(OF_THE_BROWSER)],
    )


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    profile = f"--user-data-dir={folder / 'profile'}"
    return subprocess.run(
        [str(BROWSER), *OPTIONS, profile, *words], capture_output=True, text=True, timeout=120, check=True
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Path]:
    """The reports of a run, of one with many classes and candidates, of folds and of a comparison."""
    folder = tmp_path_factory.mktemp("reports")
    make_run(folder / "run")
    names = [
        "<script>alert(1)</script>",
        "W" * 300,
        "two words",
        *(f"a rather long name of class {n}" for n in range(97)),
    ]
    large = make_run(folder / "large", Made(names, candidates=5000, epochs=300, ranks=20))
    log_lines(large, ("WARNING", "<img src=http://outside.invalid/x.png>" + "x" * 3000))
    for number in (1, 2, 3):
        make_run(folder / f"folds/fold-{number}", Made(seed=number, candidates=0))
    make_comparison(folder / "comparison")
    unfinished = make_run(folder / "unfinished")
    unfinished.state_file("evaluate").unlink()
    kinds = ("run", "large", "folds", "comparison", "unfinished")
    assert [main(["report", str(folder / kind)]) for kind in kinds] == [0] * len(kinds)
    return {kind: folder / kind / "report/index.html" for kind in kinds}


def test_the_browser_shows_what_a_bad_page_does(tmp_path):
    """Without this, the next test could pass because nothing is measured."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<!DOCTYPE html><body><img src="http://outside.invalid/x.png"><script>console.error("wrong")</script>'
        '<div style="width:700px">wide</div></body>'
    )
    seen = browse(tmp_path, [bad])
    assert any("wrong" in line for line in seen.console)
    assert seen.requests == ["http://outside.invalid/x.png"]
    assert [page["wide"] for page in seen.pages] == [["DIV"], []]
    assert [page["width"] > page["screen"] for page in seen.pages] == [True, False]


def test_reports_load_nothing_report_nothing_and_fit_the_screen(tmp_path, reports):
    seen = browse(tmp_path, list(reports.values()))
    assert seen.console == []
    assert seen.requests == []
    assert len(seen.pages) == len(WIDTHS) * len(reports)
    for page in seen.pages:
        assert page["width"] <= page["screen"], page
        assert page["wide"] == [], page
        assert page["flat"] == 0, page
        assert page["sections"] >= 5, page


def test_reports_have_pages_on_paper_and_are_drawn(tmp_path, reports):
    for kind in ("run", "comparison"):
        paper, screen = tmp_path / f"{kind}.pdf", tmp_path / f"{kind}.png"
        address = reports[kind].as_uri()
        call(tmp_path, f"--print-to-pdf={paper}", "--no-pdf-header-footer", address)
        call(tmp_path, f"--screenshot={screen}", address)
        assert len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) >= 3
        assert len(screen.read_bytes()) > 20_000
