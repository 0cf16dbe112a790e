"""Tiles to slide: reader, batches, network, blend, store. Importing the package itself loads no torch."""
