"""LPD: weakly supervised tissue segmentation on whole slides with learnable prototypes (arXiv 2512.05922)."""

__version__ = "0.1.0"
