"""A build, its record and its explanation -> one page for people."""

from edgeq.observe.report.page import engine_lines, report_html
from edgeq.observe.report.parts import ReportParts
from edgeq.observe.report.record import BuildRecord

__all__ = ["BuildRecord", "ReportParts", "engine_lines", "report_html"]
