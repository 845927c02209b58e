"""What every example must be: described, short, pinned without naming a place; listed in the README as it is."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from polyglot.examples import POLYGLOT, ROOT, Example, find, lacking, own_lines, own_sources, read

EXAMPLES = find()
NAMES = [example.name for example in EXAMPLES]
REGISTRIES = {
    "a4aa2ac280bb8d1a",
    "8b5bb5eb9d758455",
    "789e46d79514e280",
    "8c02cf86b202d408",
    "8743857e3ea00fd1",
    "3ca29e55be4befa4",
    "87d14f070cb96869",
    "00a7dc5a0cc38858",
    "9da5f32d96412512",
    "317d2d52829b7812",
    "43c04ed1dabe979b",
    "095fbbaf0076d564",
    "e680c440a2e92079",
}
"""Digests of the names of the languages' and Debian's registries: this file names none of them either."""
PRODUCERS = ["go/producer/main.go", "typescript/producer.ts"]


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def hosts_in(text: str, digests: set[str]) -> set[str]:
    """The dotted names in it, or ends of them, with one of these digests."""
    names = {name.lower() for name in re.findall(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", text)}
    ends = {".".join(parts[at:]) for parts in (name.split(".") for name in names) for at in range(len(parts) - 1)}
    return {end for end in ends if digest(end) in digests}


def test_every_folder_is_described() -> None:
    folders = {path.name for path in POLYGLOT.iterdir() if path.is_dir()}
    assert folders == set(NAMES)
    assert {"c", "go", "java", "rust", "shell", "shell-nats", "typescript"} <= folders


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_an_example_says_how_it_is_built_and_started(example: Example) -> None:
    assert example.settings.language
    assert re.fullmatch(r"[a-z0-9-]+", example.name), "the folder's name is a family of types"
    assert shlex.split(example.settings.start)
    assert "\n" not in example.settings.build + example.settings.start
    readme = (example.folder / "README.md").read_text()
    assert example.settings.level in readme
    assert "NATS_URL" in readme


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_an_example_is_under_150_lines_of_its_own(example: Example) -> None:
    sources = own_sources(example)
    lines = {path.name: own_lines(path.read_text()) for path in sources}
    assert sum(lines.values()) < 150, lines


@pytest.mark.parametrize("producer", PRODUCERS)
def test_a_producer_has_40_lines_of_its_own(producer: str) -> None:
    source = (POLYGLOT / producer).read_text()
    assert own_lines(source) <= 40
    assert max(len(line) for line in source.splitlines()) <= 120


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_no_line_of_an_example_is_longer_than_others(example: Example) -> None:
    for path in own_sources(example):
        assert max((len(line) for line in path.read_text().splitlines()), default=0) <= 120, path


def test_the_readme_lists_them_as_they_are() -> None:
    text = (POLYGLOT / "README.md").read_text()
    rows = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+)/README\.md\) \| ([^|]+) \| (L\d) \|", text, flags=re.MULTILINE)
    listed = [(name, language.strip(), level) for name, folder, language, level in rows if name == folder]
    assert sorted(listed) == [(one.name, one.settings.language, one.settings.level) for one in EXAMPLES]


def test_no_file_names_a_registry() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 100
    named = {str(path): hosts for path in files if (hosts := hosts_in(path.read_text(errors="replace"), REGISTRIES))}
    assert named == {}


def test_a_host_is_found_wherever_it_stands() -> None:
    looked_for = {digest("example.net"), digest("example.org")}
    assert hosts_in('"resolved": "https://cdn.Example.NET/a/-/a-1.tgz"', looked_for) == {"example.net"}
    assert hosts_in("index = sparse+https://example.org/, not my-example.net.", looked_for) == {"example.org"}


def test_lines_are_counted_without_blanks_and_comments() -> None:
    assert own_lines("int a;\n\n/* one\n two */\n// three\n  int b; // four\n#include <c.h>\n") == 3
    assert own_lines("f(\n  a,\n)\n}\n") == 4
    assert own_lines('"""Says\n\nwhat."""\n# why\nx = 1\n') == 1


def test_what_is_not_described_right_is_refused(tmp_path: Path) -> None:
    right = 'language = "A"\nlevel = "L1"\nneeds = []\nbuild = ""\nstart = "./a"\n'
    (tmp_path / "polyglot.toml").write_text(right)
    assert read(tmp_path).settings.level == "L1"
    for wrong in (right.replace("L1", "L4"), right + 'extra = "x"\n', right.replace('start = "./a"\n', "")):
        (tmp_path / "polyglot.toml").write_text(wrong)
        with pytest.raises(msgspec.ValidationError):
            read(tmp_path)


def test_what_is_lacking_is_told(tmp_path: Path) -> None:
    (tmp_path / "polyglot.toml").write_text(
        'language = "A"\nlevel = "L1"\nneeds = ["sh", "no-such-program"]\nbuild = ""\nstart = "./a"\n'
    )
    assert lacking(read(tmp_path)) == "there is no no-such-program"
    assert shutil.which("sh")
    (tmp_path / "polyglot.toml").write_text(
        'language = "A"\nlevel = "L1"\nneeds = ["sh"]\nbuild = ""\nstart = "./a"\ncheck = "false"\n'
    )
    assert lacking(read(tmp_path)) == "`false` fails"
