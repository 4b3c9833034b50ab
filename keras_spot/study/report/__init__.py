"""A study's report: one HTML file that needs nothing else, its pictures and its summary."""

from keras_spot.study.report.write import check_report, write_report

__all__ = ["check_report", "write_report"]
