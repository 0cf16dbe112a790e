"""The study behind docs/results.md: which part of the method does what, on real tissue, over several seeds."""
