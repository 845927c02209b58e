"""What the kit found as JUnit XML, which most CI systems show: a test case for each rule."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final
from xml.etree import ElementTree as ET

from ajc_bridge.conform.kit import Report

_illegal: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(report: Report) -> bytes:
    """Return the document, UTF-8, with its declaration."""
    counts = Counter[str]()
    suite = ET.Element("testsuite")
    for verdict in report.verdicts:
        counts[verdict.outcome] += 1
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_legal(f"{report.family}.{verdict.level}"),
            name=_legal(f"{verdict.rule} {verdict.title}"),
            time=f"{verdict.seconds:.3f}",
        )
        if verdict.outcome == "failed":
            failure = ET.SubElement(case, "failure", message=_legal(f"{verdict.rule}: {verdict.seen}"))
            failure.text = _legal(f"sent {verdict.sent}\nexpected {verdict.expected}\nseen {verdict.seen}")
        elif verdict.outcome == "not applicable":
            ET.SubElement(case, "skipped", message=_legal(verdict.reason))
        elif verdict.outcome == "not tried":
            ET.SubElement(case, "error", message=_legal(report.gave_up))
        elif verdict.note:
            ET.SubElement(case, "system-out").text = _legal(verdict.note)
    suite.attrib |= {
        "name": _legal(f"exec protocol {report.level}: {report.family}"),
        "tests": str(len(report.verdicts)),
        "failures": str(counts["failed"]),
        "skipped": str(counts["not applicable"]),
        "errors": str(counts["not tried"]),
        "time": f"{sum(verdict.seconds for verdict in report.verdicts):.3f}",
    }
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True))


def _legal(text: str) -> str:
    return _illegal.sub("\ufffd", text)
