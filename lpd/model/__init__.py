"""Encoder, prototypes, CAM arithmetic, network and checkpoint file. Importing the package itself loads no torch."""
