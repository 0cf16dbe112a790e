"""How fast whole slides are segmented, as ratios measured in one run."""
