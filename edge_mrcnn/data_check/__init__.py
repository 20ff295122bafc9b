"""A check of a data set for faults before training."""

from __future__ import annotations

from edge_mrcnn.data.faults import FAULTS, Fault, Finding, Place
from edge_mrcnn.data_check.survey import DataCheck, SplitSummary, check_data

__all__ = ["FAULTS", "DataCheck", "Fault", "Finding", "Place", "SplitSummary", "check_data"]
