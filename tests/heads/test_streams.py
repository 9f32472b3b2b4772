"""Operations on streams keep absent streams absent."""

import pytest
import torch

from heads.streams import NAMES, Streams


def test_absent_streams_stay_absent():
    one, both = Streams(motion=torch.ones(2)), Streams(torch.zeros(3), torch.ones(2))
    assert [name for name, _ in both.items()] == list(NAMES)
    assert [name for name, _ in one.map(torch.neg).items()] == ["motion"]
    assert [name for name, _ in both.zip(one, torch.add).items()] == ["motion"]
    assert "audio" in both
    assert "audio" not in one
    assert "audio" not in both.only(("motion",))
    with pytest.raises(KeyError, match="audio"):
        one["audio"]
