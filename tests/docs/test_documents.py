"""Every command and snippet of README and docs is done, in its order, on a real server; every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_blocks import RUN, SHOWN, Block, blocks
from doc_session import Session, look_only

from ajc_bridge.config import Config

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = [path for path in sorted((ROOT / "examples").rglob("*.md")) if "node_modules" not in path.parts]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *EXAMPLES]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in DOCUMENTS if blocks(path)], ids=lambda path: path.stem)
def test_what_a_document_says_works(path: Path, tmp_path: Path) -> None:
    found = blocks(path)
    session = Session(tmp_path)
    try:
        first = next((block for block in found if needs_server(block)), None)
        if first is not None and not first.text.startswith("ajc-bridge dev"):
            session.open_terminal("ajc-bridge dev --ephemeral")
        for block in found:
            assert block.language in RUN | SHOWN, f"{path.name}:{block.line}: nobody runs blocks of {block.language!r}"
            session.do(block)
    finally:
        session.close()


def needs_server(block: Block) -> bool:
    """Tell whether doing this block needs a server."""
    if block.file:
        return False
    return block.language == "python" or (block.language == "sh" and not all(map(look_only, block.text.splitlines())))


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{path.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{path.name} links to {target}, which has {sorted(slugs)}"


def test_who_reads_on_meets_no_queue_of_other_settings_and_no_port_that_is_taken() -> None:
    started, operated = ((ROOT / "docs" / name).read_text() for name in ("getting-started.md", "operations.md"))
    add = re.compile(r"^ajc-bridge queue add (\S+)(.*)$", re.MULTILINE)
    made = dict(add.findall(started))
    again = dict(add.findall(operated))
    assert made
    assert again
    assert all(made[name] == settings for name, settings in again.items() if name in made)
    listen = re.search(r'^listen = "(.+)"$', operated, re.MULTILINE)
    assert listen is not None
    assert listen[1] != Config().http.listen
    assert operated.count(f"http://{listen[1]}/") == 3


def test_readme_shows_two_commands_and_a_picture_first() -> None:
    first_screen = (ROOT / "README.md").read_text().split("## Try it by hand")[0]
    assert first_screen.count("\n") < 60
    for part in ("make demo\nmake test", "docs/picture.svg", "ajc.Responder()"):
        assert part in first_screen
