"""What every example must be: described, short, pinned without naming a place; listed in the README as it is."""

from __future__ import annotations

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
REGISTRIES = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("crates", "io"),
    ("crates", "io-index"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("yarnpkg", "com"),
    ("proxy", "golang", "org"),
    ("sum", "golang", "org"),
    ("repo", "maven", "apache", "org"),
    ("repo1", "maven", "org"),
    ("central", "sonatype", "com"),
    ("deb", "debian", "org"),
]
"""In parts, since this file names none of them either."""


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
    for path in sources:
        assert max((len(line) for line in path.read_text().splitlines()), default=0) <= 120, path


def test_the_readme_lists_them_as_they_are() -> None:
    text = (POLYGLOT / "README.md").read_text()
    rows = re.findall(r"^\| \[([\w-]+)\]\(([\w-]+)/README\.md\) \| ([^|]+) \| (L\d) \|", text, flags=re.MULTILINE)
    listed = [(name, language.strip(), level) for name, folder, language, level in rows if name == folder]
    assert sorted(listed) == [(one.name, one.settings.language, one.settings.level) for one in EXAMPLES]


def test_no_file_names_a_registry() -> None:
    hosts = re.compile("|".join(re.escape(".".join(parts)) for parts in REGISTRIES), re.IGNORECASE)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 100
    named = [str(path) for path in files if hosts.search(path.read_text(errors="replace"))]
    assert named == []
    assert hosts.search(".".join(["https://registry", *REGISTRIES[4]]))


def test_lines_are_counted_without_blanks_comments_and_brackets() -> None:
    assert own_lines("int a;\n\n/* one\n two */\n// three\n  int b; // four\n#include <c.h>\n") == 3
    assert own_lines("f(\n  a,\n)\n}\n") == 2
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
