"""Speed: this package against the authors' algorithm, restated; ratios of things that took turns in one run."""
