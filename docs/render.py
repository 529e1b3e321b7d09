"""What the pages show, made by the code: outputs, stored outputs and tables.

    ```python                  run, all blocks of a page in one namespace; a ```text block right under it gets
                               what it prints
    ```console                 lines that begin with `$ gmm-speciation` or `$ model-bridges` are run, and what
                               they print goes under them
    <!-- stored: FILE 1-9 -->  before a ```console block that takes long: lines of `results/FILE`
    <!-- not run -->           before a ```python block that needs what is not here
    <!-- table: NAME -->       up to `<!-- end -->`: a function of `page_tables.py`, from stored results

A ```python block whose first line is `# NAME.py` is a file of the reader's, and no block to run.

    python docs/render.py [PAGE ...]            fill in everything that is made at once
    python docs/render.py --store out           take over what long commands wrote there, then fill in
    python docs/render.py --store-papers out/papers   the same of runs of `paper`, a folder each
"""

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
RESULTS = DOCS / "results"
WIDTH = 88
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", re.M | re.S)
STORED = re.compile(r"<!-- stored: (\S+) (\d+)-(\d+) -->\n\Z")
TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.S)
FILE = re.compile(r"# (\w+\.py)\b")
sys.path.insert(0, str(DOCS))


def pages() -> list[Path]:
    """Every page with something to fill in, the README first."""
    found = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    texts = {page: page.read_text(encoding="utf-8") for page in found}
    return [p for p, text in texts.items() if BLOCK.search(text) or TABLE.search(text)]


def rendered(page: Path) -> str:
    """The page with everything in it made anew; the page itself stays as it is."""
    import page_tables

    text = page.read_text(encoding="utf-8")
    names: dict = {"__name__": "__main__"}
    with _at_home(text):
        text = BLOCK.sub(lambda block: _block(block, text, names), text)
    fill = lambda mark: f"{mark[1]}{page_tables.make(mark[2])}\n{mark[3]}"  # noqa: E731
    return TABLE.sub(fill, text)


def _block(block: re.Match, text: str, names: dict) -> str:
    kind, code, shown = block.groups()
    if kind == "python":
        if FILE.match(code) or text.endswith("<!-- not run -->\n", 0, block.start()):
            return block[0]
        printed = _printed(lambda: exec(compile(code, "<page>", "exec"), names))
        return f"```python\n{code}```\n" + ("" if shown is None else f"\n```text\n{printed}```\n")
    stored = STORED.search(text, 0, block.start())
    if stored is not None and stored.end() == block.start():
        lines = (RESULTS / stored[1]).read_text(encoding="utf-8").splitlines()
        chosen = lines[int(stored[2]) - 1 : int(stored[3])]
        typed = [line for line in code.splitlines() if line.startswith("$ ")]
        return "```console\n" + "\n".join([*typed, *chosen]) + "\n```\n"
    return f"```console\n{''.join(_typed(code))}```\n"


def _typed(code: str) -> Iterator[str]:
    """The commands of a block, each over what it prints."""
    from gmm_speciation.cli import main as theory
    from model_bridges.cli import main as bridges

    programs = {"gmm-speciation": theory, "model-bridges": bridges}
    for line in code.splitlines():
        if not line.startswith("$ "):
            continue
        yield f"{line}\n"
        program, *words = shlex.split(line[2:], comments=True)
        if program in programs:
            printed = _printed(lambda main=programs[program], words=words: main(words))
            yield printed.strip("\n") + "\n" if printed.strip() else ""


def _printed(run) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run()
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@contextlib.contextmanager
def _at_home(text: str) -> Iterator[None]:
    """An empty folder with the reader's own files, a terminal of one width, double precision as before."""
    before = Path.cwd(), os.environ.get("COLUMNS"), list(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        for kind, code, _ in BLOCK.findall(text):
            if kind == "python" and (named := FILE.match(code)):
                (Path(folder) / named[1]).write_text(code, encoding="utf-8")
        os.chdir(folder)
        os.environ["COLUMNS"] = str(WIDTH)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            os.chdir(before[0])
            os.environ.pop("COLUMNS") if before[1] is None else os.environ.update(COLUMNS=before[1])
            sys.path[:] = before[2]


def store(out: Path) -> None:
    """Take over what the commands of `make pages` wrote: claims with their verdicts, and printed tables."""
    claims = []
    for name in ("verify", "verify-guidance"):
        content = json.loads((out / name / "result.json").read_text(encoding="utf-8"))
        claims += content["claims"]
    kept = (
        "claim",
        "source",
        "predicted",
        "tolerance",
        "measured",
        "verdict",
        "relation",
        "expected",
    )
    content = {"claims": [{key: claim[key] for key in kept} for claim in claims]}
    for claim in content["claims"]:
        claim["measured"] = {key: claim["measured"][key] for key in ("value", "interval_95")}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (RESULTS / "claims.json").write_text(text + "\n", encoding="utf-8")
    for printed in out.glob("*.txt"):
        lines = printed.read_text(encoding="utf-8").splitlines()
        lines = [line.rstrip() for line in lines if not line.startswith("Report: ")]
        kept_lines = "\n".join(lines).strip("\n")
        (RESULTS / printed.name).write_text(kept_lines + "\n", encoding="utf-8")


def store_papers(out: Path) -> None:
    """Take over runs of `paper`, a folder each: rows without their bulk, pictures that rows name."""
    kept = ("claim", "where", "predicted", "predicted_by", "relation", "tolerance", "measured")
    kept += ("verdict", "expected", "measured_by", "command", "figure", "note")
    target, pictures = ROOT / "benchmarks" / "results" / "papers", DOCS / "pictures" / "papers"
    for folder in (target, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    for result in sorted(out.glob("*/result.json")):
        content = json.loads(result.read_text(encoding="utf-8"))
        claims = [{key: claim[key] for key in kept} for claim in content["claims"]]
        for claim in claims:
            claim["measured"] = {key: claim["measured"][key] for key in ("value", "interval_95")}
            picture = result.parent / f"{claim['figure']}.png"
            if claim["figure"] and picture.exists():
                shutil.copyfile(picture, pictures / picture.name)
        content = {key: content[key] for key in ("format", "title", "about", "provenance")}
        text = json.dumps(content | {"claims": claims}, indent=1, ensure_ascii=False)
        (target / f"{result.parent.name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="*", type=Path)
    parser.add_argument("--store", type=Path, metavar="OUT")
    parser.add_argument("--store-papers", type=Path, metavar="OUT")
    given = parser.parse_args()
    if given.store_papers is not None:
        store_papers(given.store_papers)
    if given.store is not None:
        store(given.store)
    failed = 0
    for page in given.page or pages():
        print(page, file=sys.stderr, flush=True)
        try:
            page.write_text(rendered(page.resolve()), encoding="utf-8")
        except Exception:  # the other pages are made all the same
            traceback.print_exc()
            failed += 1
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
