"""What torchrun tells each of its processes."""

from __future__ import annotations

import pytest

from lpd.cli.train import torchrun_distribution
from lpd.errors import ConfigError
from lpd.training.distribution import Distribution

ENVIRONMENT = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (ENVIRONMENT, Distribution(3, 4, 1)),
        ({**ENVIRONMENT, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4"}, None),  # of a cluster that starts no processes of ours
    ],
)
def test_torchruns_variables_say_which_process_it_is(environment, expected):
    assert torchrun_distribution(environment) == expected


@pytest.mark.parametrize("wrong", [{"RANK": "4"}, {"RANK": "-1"}, {"LOCAL_RANK": "4"}, {"WORLD_SIZE": "many"}])
def test_impossible_processes_are_refused(wrong):
    with pytest.raises(ConfigError, match="torchrun"):
        torchrun_distribution({**ENVIRONMENT, **wrong})
