"""Looks a tile set over before training: what it holds, and what is wrong with it, file by file."""

from lpd.data.check.dataset import SMALLEST_SHARE, DatasetCheck, check_dataset
from lpd.data.check.findings import Finding, Item
from lpd.data.check.summary import SplitSummary

__all__ = ["SMALLEST_SHARE", "DatasetCheck", "Finding", "Item", "SplitSummary", "check_dataset"]
