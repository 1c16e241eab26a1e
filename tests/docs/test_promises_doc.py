# SPDX-License-Identifier: Apache-2.0
import re

from tests.support.paths import ROOT


def test_each_promise_has_a_test_that_carries_its_number() -> None:
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    section = page.partition("## Promises")[2].partition("\n## ")[0]
    promised = {int(number) for number in re.findall(r"^(\d+)\. ", section, re.MULTILINE)}
    tests = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.name != "test_promises_doc.py"
    )
    tested = {int(number) for number in re.findall(r"[Pp]romise (\d+)\b", tests)}
    assert promised == set(range(1, len(promised) + 1))
    assert tested == promised
