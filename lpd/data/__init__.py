"""Tile sets in the BCSS-WSSS layout, and the synthetic phantom. Importing the package itself loads no torch."""
