"""Figures of consumption have a source, and wrong names are refused."""

import pytest

from stoker.training.errors import TrainingError
from stoker.training.feeding.consumption import NETWORKS, PUBLISHED, parse_like, published, stall_of


def test_each_figure_is_of_a_network_that_can_be_measured_too_and_has_a_source() -> None:
    assert {one.network for one in PUBLISHED} <= set(NETWORKS)
    assert all("/" in one.source and one.samples_per_s > 0 for one in PUBLISHED)
    assert len({(one.network, one.device) for one in PUBLISHED}) == len(PUBLISHED)


def test_all_figures_of_a_network_are_taken_or_that_of_one_device() -> None:
    assert [one.device for one in published("resnet50", "")] == ["h100", "a100", "rtx3090"]
    assert [round(one.samples_per_s) for one in published("resnet50", "a100")] == [920]
    assert published("resnet50", "here") == published("lenet", "") == []


def test_wrong_names_are_refused() -> None:
    for wrong, told in {"vgg": "there are: ", "resnet50@h200": "h100, a100", "lenet@": "there are: here"}.items():
        with pytest.raises(TrainingError, match=told):
            parse_like(wrong)


def test_a_device_waits_for_what_it_is_not_fed() -> None:
    assert stall_of(250, 1000) == 0.75
    assert stall_of(1000, 1000) == stall_of(3000, 1000) == 0
