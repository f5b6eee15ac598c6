"""A check as other programs want it: JUnit's XML, GitHub's annotations, Markdown.

The file is named as they know it: from the folder that they run in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from edgekit.gate import Check, Finding, Verdict
from edgekit.report import project as told

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~])")


def junit(found: Check, file: Path) -> str:
    """JUnit's XML, in the form that CI servers agree on: a test case for every finding."""
    failed = len(found.failures)
    skipped = sum(_is_open(found, one) for one in found.findings)
    counts = {"tests": str(len(found.findings)), "failures": str(failed), "skipped": str(skipped)}
    top = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(top, "testsuite", {"name": "edgekit check", **counts})
    for one in found.findings:
        case = {
            "classname": f"edgekit.{one.pair.model}.{one.pair.target}",
            "name": f"{one.what} against {one.against}",
            "file": file.as_posix(),
        }
        element = ElementTree.SubElement(suite, "testcase", _clean(case))
        if one in found.failures:
            ElementTree.SubElement(element, "failure", _clean({"message": one.said}))
        elif _is_open(found, one):
            ElementTree.SubElement(element, "skipped", _clean({"message": one.said}))
    ElementTree.indent(top)
    return ElementTree.tostring(top, "unicode", xml_declaration=True) + "\n"


def _is_open(found: Check, one: Finding) -> bool:
    return one.verdict is Verdict.INCONCLUSIVE and one not in found.failures


def _clean(attributes: dict[str, str]) -> dict[str, str]:
    """Without the characters that XML cannot hold."""
    return {name: _NOT_XML.sub("?", value) for name, value in attributes.items()}


def github(found: Check, file: Path) -> str:
    """Workflow commands of GitHub Actions: an error for a failure, a warning for what is open."""
    annotations = (
        _command("error" if one in found.failures else "warning", one, file)
        for one in found.findings
        if one.verdict is not Verdict.OK
    )
    return "".join(f"{line}\n" for line in (*annotations, _data(told.summary(found))))


def _command(kind: str, one: Finding, file: Path) -> str:
    title = f"edgekit: {one.what} of {one.pair}"
    return f"::{kind} file={_property(file.as_posix())},title={_property(title)}::{_data(one.said)}"


def _data(text: str) -> str:
    """As the runner's toolkit escapes a message (actions/toolkit, packages/core/src/command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """The same for a property, which ends at a comma and a colon."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def markdown(found: Check, file: Path) -> str:
    """A comment for a merge request: the verdict, what is not well, the table."""
    verdict = "passed" if found.passed else "failed"
    lines = [f"### {_plain(file.name)}: {verdict}", ""]
    lines += [f"- {_plain(line)}" for line in told.lines(found)]
    lines += ["", _row(told.COLUMNS), _row(("---",) * len(told.COLUMNS), plain=False)]
    lines += [_row(told.cells(row)) for row in found.rows]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...], *, plain: bool = True) -> str:
    return f"| {' | '.join(_plain(cell) if plain else cell for cell in cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


FORMATS: dict[str, Callable[[Check, Path], str]] = {
    "junit": junit,
    "github": github,
    "markdown": markdown,
}
