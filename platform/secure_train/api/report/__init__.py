"""A job's report: one self-contained HTML page, without script and without any external resource."""

from secure_train.api.report.life import Charge
from secure_train.api.report.page import render_report

__all__ = ["Charge", "render_report"]
