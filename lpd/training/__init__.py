"""One training loop, its schedules, and runs (a run is a folder)."""
