"""The table of faults at the end of a run: each row that was staged, and how it went.

A test belongs to the rows that its name begins with: test_row_19_…, test_rows_20_and_21_…
"""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from tests.faults.rows import FAULTS

_ROWS = re.compile(r"test_rows?_((?:\d+(?:_and_)?)+)_")
_WORST = ("failed", "skipped", "passed")


def rows_of(name: str) -> list[int]:
    """The numbers in a test's name."""
    found = _ROWS.match(name)
    return [int(number) for number in found[1].split("_and_")] if found else []


class Table:
    """What became of each row. With xdist every worker has one as well, which nobody prints."""

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
            line = f"row {row:2}  {outcome:7}  {FAULTS.get(row, ''):50} {_details(reports)}"
            terminalreporter.write_line(line, green=outcome == "passed", red=outcome == "failed")
        others = ", ".join(str(row) for row in FAULTS if row not in self._reports)
        terminalreporter.write_line(f"without a test of this run: {others or 'none'}")


def _details(reports: list[pytest.TestReport]) -> str:
    """How many tests, how long; why one was skipped, and what was noted."""
    skipped = {str(report.longrepr[-1]) for report in reports if isinstance(report.longrepr, tuple | list)}
    noted = {f"{name}: {value}" for report in reports for name, value in report.user_properties}
    took = f"{len(reports)} test(s), {sum(report.duration for report in reports):.1f} s"
    return "; ".join([took, *sorted(skipped | noted)])


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table(), "table-of-faults")
