"""Refinement in parallel threads gives what it gives at once."""

from __future__ import annotations

import pytest
import torch

from lpd.errors import ConfigError
from lpd.evaluation.refining import NAMES, REFINEMENTS, TTA, check_refinements, refine, refinement_notes
from lpd.inference.devices import cpu_threads


@pytest.mark.parametrize("name", sorted(REFINEMENTS))
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(name, threads):
    torch.manual_seed(0)
    pictures, probabilities = torch.rand(3, 3, 32, 32), torch.rand(3, 2, 32, 32).softmax(1)
    expected = REFINEMENTS[name](pictures, probabilities)
    with cpu_threads(threads):
        found = refine(name, pictures, probabilities)
        assert torch.get_num_threads() == threads
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_every_name_is_explained_and_no_other_accepted():
    notes = refinement_notes((224, 192))
    assert set(notes) == {"none", *NAMES}
    assert "192, 224 px" in notes[TTA]
    check_refinements(("adapt", "pamr", "crf", "tta"))
    with pytest.raises(ConfigError, match="'none' is unknown"):
        check_refinements(("pamr", "none"))
