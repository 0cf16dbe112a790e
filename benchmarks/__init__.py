"""Measurements that can be repeated: a study on real tissue, and ratios of speed."""
