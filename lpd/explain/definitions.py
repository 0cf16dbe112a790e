"""What each figure of merit is, in a sentence: the command line and the page show the same."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: A prototype that wins less than this share of its class's region is called dead.
DEAD_SHARE = 0.01
#: Prototypes of a class whose maps correlate at least so much inside its region are called near-duplicates.
DUPLICATE_CORRELATION = 0.95

#: What each figure is, one sentence each; with those that :func:`lpd.explain.figures.prototype_figures` alone tells.
DEFINITIONS: Mapping[str, str] = MappingProxyType(
    {
        "jeffreys_similarity": "exp(−J), J being the Jeffreys divergence of two prototypes' maps as softmax "
        "distributions at τ = 0.07 over the class's region in a tile, mean over pairs and tiles (what the paper's "
        "L_div makes small): 1 alike, 0 disjoint.",
        "map_cosine": "Cosine of two prototypes' maps, each less its mean over the class's region in a tile, mean over "
        "pairs and tiles: 1 alike, 0 unrelated, −1 opposite.",
        "map_iou": "Intersection over union of the cells where each of two maps, stretched to 0–1 within the class's "
        "region in a tile, is at least one half, mean over pairs and tiles: 1 alike, 0 disjoint.",
        "union_coverage": "Share of the class's region in a tile where at least one prototype's map, stretched to 0–1, "
        "is at least one half, mean over tiles: 1 if nothing of the class is left to no prototype.",
        "effective_prototypes": "exp(entropy) of the usage shares, over all of the class's region: 1 if one prototype "
        "wins everywhere, K if all K win alike.",
        "usage": "Share of the class's region where a prototype's map is the highest of its class; cells where several "
        "are equally high are shared, and of maps that are equal everywhere the first counts for all.",
        "counted": "Prototypes that the checkpoint has neither muted nor merged into one before them; figures leave "
        "out the others.",
        "dead": f"Prototypes whose usage is below {DEAD_SHARE:.0%}.",
        "near_duplicates": "Pairs of prototypes whose maps have a Pearson correlation of at least "
        f"{DUPLICATE_CORRELATION} over all of the class's region.",
        "correlations": "Pearson correlation of two prototypes' maps over all of the class's region.",
        "prototype_cosine": "Cosine of two prototypes of a class as the network compares them with pixels (adapted to "
        "the scale; on slides the deepest), mean over pairs: 1 alike, 0 unrelated; it is the model's own, the same on "
        "every slide, and results of older versions do not keep it.",
        "silhouette": "Mean silhouette of at most 500 pixels' features in the class's region by winning prototype and "
        "cosine distance: 1 far apart, 0 touching, below 0 in each other's place; data sets only, for slides keep no "
        "features.",
        "map_silhouette": "Mean silhouette of at most 500 cells of the class's region, drawn evenly, by winning "
        "prototype: a cell is the vector of what the class's prototypes answer there, distances are Euclidean; 1 far "
        "apart, 0 touching, below 0 in each other's place; slides only, and another number than the silhouette of "
        "features that data sets have.",
        "similarity": "Pearson correlation of two prototypes' maps over the tissue that both results have.",
    }
)
