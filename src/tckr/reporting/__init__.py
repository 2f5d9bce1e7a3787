"""What people read about a run: the report, its pictures and tables."""

from tckr.reporting.report import write_report

__all__ = ["write_report"]
