"""Bands: what is asked for, cut from top to bottom into parts that are computed one after another.

What is carried from panel to panel, and what readers and writers keep for the next row of panels, goes with the width
of what is computed; so memory does not grow with the slide. Windows across a cut are seen twice, which is why cuts go
through glass where they can. Pixels do not depend on cuts, as those of a region do not depend on what was asked for.
"""

from __future__ import annotations

from itertools import pairwise

from lpd.inference.blocks import BLOCK_PX
from lpd.inference.frame import Box
from lpd.inference.meta import CELL_PX
from lpd.inference.windows import Plan

#: What is no wider, in mask pixels, is not cut.
_WIDEST_PX = 8192
#: By this part of a band's width a cut may move to where fewer windows are seen twice.
_MOVED_PART = 8


def bands(plan: Plan) -> list[Box]:
    """Boxes about equally wide, side by side, that cover ``plan.wanted``; always the same for the same windows.

    Cuts lie between blocks of 512 px, so that none is read or written for two bands.
    """
    wanted = plan.wanted
    count = -(-wanted.width // _WIDEST_PX)
    cuts = [wanted.x0]
    for number in range(1, count):
        equal, slack = wanted.x0 + number * wanted.width // count, wanted.width // (_MOVED_PART * count)
        places = range(-(-(equal - slack) // BLOCK_PX) * BLOCK_PX, equal + slack + 1, BLOCK_PX)
        cuts.append(min(places, key=lambda x: (_seen_twice(plan, x), abs(x - equal))))
    cuts.append(wanted.x1)
    return [Box(x0, wanted.y0, x1, wanted.y1) for x0, x1 in pairwise(cuts)]


def _seen_twice(plan: Plan, x: int) -> int:
    """How many windows both sides of a cut at column ``x`` depend on."""
    reach = (plan.grid.gate_reach + 1) * CELL_PX
    columns = plan.grid.touching(x - reach, x + reach, plan.grid.columns)
    first = plan.columns.start
    return int(plan.chosen[:, max(0, columns.start - first) : max(0, columns.stop - first)].sum())
