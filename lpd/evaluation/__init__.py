"""Confusion counts to scores and reports, under every gate, background protocol and refinement."""
