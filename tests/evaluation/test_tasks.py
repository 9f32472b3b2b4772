"""Totals of the tasks."""

import pytest

from evaluation.tasks import task_figures


def test_totals_of_each_task_sum_edits_and_count_offsets() -> None:
    rows = [
        {"task": "a2v", "offset": -1, "exact": True},
        {"task": "a2v", "offset": 3, "exact": True},
        {"task": "v2a", "offset": 0, "exact": False, "edits": 1, "phonemes": 10},
        {"task": "v2a", "offset": 0, "exact": True, "edits": 5, "phonemes": 20},
        {"task": "tts", "edits": 2, "phonemes": 8},
    ]
    figures = task_figures(rows)
    assert figures.pop("v2a_per") == pytest.approx(6 / 30), "summed edits over summed phonemes"
    assert figures == {
        "a2v_share_offset_within_1": 0.5,
        "a2v_share_exact": 1.0,
        "v2a_share_offset_within_1": 1.0,
        "v2a_share_exact": 0.5,
        "tts_per": 0.25,
    }
