"""The table of faults (protocol, section 4) at the end of a run: each row that was run, and how it did.

A test belongs to the rows that its name begins with: test_row_19_…, test_rows_20_and_21_…
"""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

_ROWS = re.compile(r"test_rows?_((?:\d+(?:_and_)?)+)_")
_WORST = ("failed", "skipped", "passed")


def rows_of(name: str) -> list[int]:
    """The numbers in a test's name."""
    found = _ROWS.match(name)
    return [int(number) for number in found[1].split("_and_")] if found else []


class Table:
    """What became of each row."""

    def __init__(self) -> None:
        self._reports: dict[int, list[pytest.TestReport]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            for row in rows_of(report.nodeid.rpartition("::")[2]):
                self._reports[row].append(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._reports:
            return
        terminalreporter.section("faults")
        for row, reports in sorted(self._reports.items()):
            outcome = next(each for each in _WORST if any(report.outcome == each for report in reports))
            why = {report.longrepr[2] for report in reports if report.skipped and isinstance(report.longrepr, tuple)}
            took = sum(report.duration for report in reports)
            noted = {f"{name}: {value}" for report in reports for name, value in report.user_properties}
            line = f"row {row:2}  {outcome:7} {len(reports)} test(s), {took:5.1f} s  {'; '.join(sorted(why | noted))}"
            terminalreporter.write_line(line.rstrip(), green=outcome == "passed", red=outcome == "failed")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table(), "table-of-faults")
