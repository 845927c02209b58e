"""The command as people and CI run it: it starts, ends, kills and restarts the responder; output and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import psutil
import pytest
from kit_world import serving

from ajc_bridge.cli.app import run_command_line

PROGRAM = [sys.executable, "-m", "ajc_bridge", "conform"]
RESPONDER = Path(__file__).parent / "faulty_responder.py"


class Done:
    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode()
        self.err = err.decode()

    @property
    def outcomes(self) -> dict[str, str]:
        return {rule["rule"]: rule["outcome"] for rule in json.loads(self.out)["rules"]}


async def run(*arguments: object, env: dict[str, str] | None = None) -> Done:
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out, err)


def start(fault: str, folder: Path) -> str:
    return f"{sys.executable} {RESPONDER} conform '{fault}' {folder}"


async def started(fault: str, folder: Path, rule: str) -> Done:
    place = folder / fault.replace(" ", "-")
    place.mkdir(parents=True)
    return await run("conform", "--level", "L3", "--only", rule, "--start", start(fault, place), "--json")


@pytest.mark.slow
async def test_a_right_command_keeps_every_rule_and_what_is_written_says_so(tmp_path: Path) -> None:
    junit = tmp_path / "conform.xml"
    done = await run("conform", "--level", "L3", "--start", start("", tmp_path), "--json", "--junit", junit)
    assert done.code == 0, done.out + done.err
    told = json.loads(done.out)
    assert told["ok"] is True
    assert [rule for rule in told["rules"] if "note" in rule] == []
    assert told["highest_level"] == told["level"] == "L3"
    assert {rule: outcome for rule, outcome in done.outcomes.items() if outcome != "passed"} == {
        "EXEC-18": "not applicable"
    }
    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == (str(len(told["rules"])), "0", "1")
    assert {case.get("classname") for case in suite} == {f"conform.L{level}" for level in range(4)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        {"cuts off its work": "EXEC-34", "goes on taking requests": "EXEC-34", "ends with 1": "EXEC-34"},
        {"does not come back": "EXEC-35", "starts only once": "EXEC-36", "dies of an accident": "EXEC-12"},
    ],
    ids=["told to end", "killed"],
)
async def test_a_fault_in_a_commands_life_fails_its_rule(tmp_path: Path, faults: dict[str, str]) -> None:
    found = await asyncio.gather(*(started(fault, tmp_path, rule) for fault, rule in faults.items()))
    for (fault, rule), done in zip(faults.items(), found, strict=True):
        assert (done.code, done.outcomes) == (1, {rule: "failed"}), f"{fault}: {done.out}{done.err}"


async def test_who_takes_a_subject_is_told_apart_where_the_command_is_started(tmp_path: Path, server: Any) -> None:
    silent = "listens too widely"
    command = f"{sys.executable} {RESPONDER} mine '' {tmp_path}"
    async with serving(server.url, silent) as other:
        here = ("--prefix", other.prefix, "--server", server.url, "--only", "EXEC-1", "--json")
        alone, unknown, before = await asyncio.gather(
            started(silent, tmp_path, "EXEC-1"),
            run("conform", *here),
            run("mine", *here, "--start", command, "--wait", "1s"),
        )
    assert alone.outcomes == {"EXEC-1": "failed"}
    assert (unknown.code, unknown.outcomes) == (0, {"EXEC-1": "not applicable"})
    assert "with --start" in unknown.out
    assert (before.code, before.outcomes) == (0, {"EXEC-1": "not applicable"})
    assert "somebody else" in before.out


async def test_failures_are_told_in_text_and_in_junit(tmp_path: Path, server: Any) -> None:
    junit = tmp_path / "conform.xml"
    async with serving(server.url, "decodes as UTF-8") as responder:
        arguments = ("conform", "--prefix", responder.prefix, "--server", server.url, "--level", "L1")
        done = await run(*arguments, "--junit", junit)
    assert done.code == 1
    lines = done.out.splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("EXEC-10 "))
    assert lines[place].split()[1:3] == ["L0", "FAILED"]
    assert [line.split()[0] for line in lines[place + 1 : place + 4]] == ["sent", "expected", "seen"]
    assert lines[-1].endswith("1 failed, 3 not applicable. No level passed.")
    (case,) = [case for case in ET.parse(junit).getroot().iter("testcase") if case.find("failure") is not None]
    assert str(case.get("name")).startswith("EXEC-10 ")
    failure = case.find("failure")
    assert failure is not None
    assert "expected the payload" in str(failure.text)


async def test_what_the_document_shows_is_what_is_printed() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "conformance.md").read_text()
    sample = r"```sh\najc-bridge conform ([^\n]+) \|\| echo.*?```text\n(.*?)exit code 1\n```"
    ((command, shown),) = re.findall(sample, text, re.DOTALL)
    here = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = await run(*shlex.split(command), env=here)
    assert (done.code, done.out) == (1, shown)


async def test_the_highest_level_is_the_one_below_the_first_failure(server: Any) -> None:
    async with serving(server.url, "gives no retry-after") as responder:
        done = await run("conform", "--prefix", responder.prefix, "-s", server.url, "-l", "L1", "--json")
    assert done.code == 1
    assert json.loads(done.out)["highest_level"] == "L0"


async def test_nobody_there_is_told_once_and_nothing_is_tried(server: Any, tmp_path: Path) -> None:
    junit = tmp_path / "conform.xml"
    here = ("nobody:here", "--server", server.url, "--level", "L3", "--wait", "100ms")
    began = asyncio.get_running_loop().time()
    done, document = await asyncio.gather(run(*here, "--junit", junit), run(*here, "--json"))
    assert asyncio.get_running_loop().time() - began < 25  # rule by rule it would be minutes
    assert (done.code, document.code) == (1, 1)
    assert done.out.count("nobody serves") == 1
    *rules, given_up, summary = done.out.splitlines()
    assert given_up == "Given up: nobody serves nobody:here:echo (503) within 0.1 s."
    assert len(rules) > 20
    assert {line.split()[2] for line in rules} == {"untried"}
    assert summary.endswith(f"0 not applicable, {len(rules)} not tried. No level passed.")
    assert "nobody:here is the name of a family" in done.err
    told = json.loads(document.out)
    assert set(document.outcomes.values()) == {"not tried"}
    assert (told["ok"], told["highest_level"], told["gave_up"]) == (False, None, given_up[10:-1])
    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("errors")) == ("0", str(len(rules)))
    assert {error.get("message") for error in suite.iter("error")} == {told["gave_up"]}


async def test_a_command_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'import sys; sys.exit(\"no configuration\")'"
    began = asyncio.get_running_loop().time()
    done = await run("conform", "--level", "L3", "--start", command)
    assert asyncio.get_running_loop().time() - began < 20  # and it waits for no time-out
    assert done.code == 1
    assert "Given up: the command ended by itself (exit code 1), and nobody serves conform:echo (503).\n" in done.out
    assert "the command ended by itself (exit code 1); its last words:\nno configuration" in done.err


async def test_a_command_that_serves_nothing_is_told_with_its_last_words() -> None:
    command = f"{sys.executable} -uc 'import time; print(\"permission denied\"); time.sleep(600)'"
    began = asyncio.get_running_loop().time()
    done = await run("conform", "--level", "L3", "--start", command, "--wait", "2s")
    assert asyncio.get_running_loop().time() - began < 20
    assert done.code == 1
    assert "Given up: nobody serves conform:echo (503) within 2 s.\n" in done.out
    assert "the command runs, but nobody serves conform:echo; its last words:\npermission denied" in done.err


async def test_a_level_and_a_rule_may_be_written_in_small_letters(tmp_path: Path) -> None:
    done = await run("conform", "--level", "l1", "--only", "exec-10", "--start", start("", tmp_path), "--json")
    assert (done.code, done.outcomes) == (0, {"EXEC-10": "passed"}), done.err
    assert json.loads(done.out)["level"] == "L1"


async def test_of_much_that_a_command_writes_the_end_is_kept_and_told() -> None:
    lines = "for line in range(500_000): print(line)"
    done = await run("conform", "--only", "EXEC-10", "--start", f"{sys.executable} -c '{lines}'")
    *_, head, last = done.err.partition("its last words:\n")
    assert head
    assert last.splitlines() == ["... (the end of 3,388,890 bytes)", *map(str, range(499_990, 500_000))]


@pytest.mark.slow
async def test_a_command_that_serves_no_more_fails_its_rule_and_the_rest_is_not_tried(tmp_path: Path) -> None:
    here = ("--start", start("starts only once", tmp_path), "--json")
    done = await run("conform", "--only", "EXEC-34", "--only", "EXEC-36", "--only", "EXEC-35", *here)
    assert done.outcomes == {"EXEC-34": "passed", "EXEC-35": "not tried", "EXEC-36": "failed"}
    assert done.code == 1
    assert "the command ended by itself (exit code 1); its last words:\nserving\nthere is a lock" in done.err


async def test_what_ended_the_command_first_is_told_and_not_what_it_said_when_started_again(tmp_path: Path) -> None:
    script = tmp_path / "command"
    once = tmp_path / "once"
    script.write_text(f"#!/bin/sh\n[ -e {once} ] && exit 4\ntouch {once}\necho the cause\nexit 3\n")
    script.chmod(0o755)
    done = await run("conform", "--only", "EXEC-10", "--only", "EXEC-36", "--start", script)
    assert done.code == 1
    assert "the command ended by itself (exit code 3); its last words:\nthe cause\n" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("conform", "--level", "L4"), "L4"),
        (("conform", "--only", "EXEC-41"), "--only 'EXEC-41': must be a rule, EXEC-1 to EXEC-40"),
        (("conform", "--only", "EXEC-3"), "binds the bridge"),
        (("two words",), "task type 'two words' is not"),
        (("conform", "--prefix", "a.*"), "wildcards"),
        (("conform", "--start", "no-such-command-here"), "there is no command"),
        (("conform", "--start", "NAME=value command"), "write sh -c '...' for one"),
        (("conform", "--start", "'"), "is no command"),
        (("conform", "--wait", "5"), "--wait"),
        (("conform", "--junit", "no/such/folder/file.xml"), "cannot be written: No such file"),
        (("conform", "--start", "./no-program"), "cannot be started"),
        (("conform", "--context", "no-such-context"), "no-such-context"),
    ],
)
def test_a_wrong_usage_ends_with_2(
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "no-program").write_bytes(b"\0")
    (tmp_path / "no-program").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ajc-bridge", "conform", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command_line()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


async def test_no_server_ends_with_5() -> None:
    done = await run("conform", "--server", "nats://127.0.0.1:1", "--json")
    assert done.code == 5
    assert "error" in json.loads(done.out)


@pytest.mark.parametrize("attempt", range(4))
def test_what_was_started_ends_with_the_kit(tmp_path: Path, attempt: int) -> None:
    """Ended at the moment at which its second child appears: four times, since that moment is hit every other time."""
    del attempt
    kit = psutil.Popen([*PROGRAM, "conform", "--level", "L3", "--start", start("", tmp_path)], stdout=-3, stderr=-3)
    try:
        end = time.monotonic() + 30
        while len(children := kit.children(recursive=True)) < 2:  # a sleep would miss it
            assert time.monotonic() < end
        kit.send_signal(signal.SIGTERM)
        assert kit.wait(20) == 130
        _, alive = psutil.wait_procs(children, 10)
        assert alive == []
    finally:
        if kit.poll() is None:
            kit.kill()
            kit.wait()


async def test_a_server_that_dies_during_the_run_ends_it(own_server: Any) -> None:
    """Each check would wait for its own replies, for minutes in all."""
    async with serving(own_server.url) as responder:
        here = ("--prefix", responder.prefix, "--server", own_server.url, "--level", "L3", "--json")
        running = asyncio.create_task(run(responder.family, *here))
        async with asyncio.timeout(30):
            while not responder.counts["echo"][0]:
                await asyncio.sleep(0.01)
        own_server.stop()
        died = asyncio.get_running_loop().time()
        done = await running
    assert asyncio.get_running_loop().time() - died < 15
    assert (done.code, json.loads(done.out)["error"]) == (5, "the connection to NATS broke during the run")
    assert "Traceback" not in done.err
