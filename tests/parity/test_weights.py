"""Synthetic weights: the rule of each tensor follows from its checkpoint key."""

import json

import pytest

from parity import weights
from parity.harness import MANIFESTS


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.json")), ids=lambda path: path.stem)
def test_rule_follows_from_the_key(path):
    manifest = json.loads(path.read_text())
    for key, entry in manifest.items():
        assert weights.rule_of(entry.get("tied_to", key), entry["shape"]) == entry["rule"], key


def test_tied_keys_share_one_tensor():
    manifest = {"a.weight": {"shape": [2, 3]}, "b.weight": {"shape": [2, 3], "tied_to": "a.weight"}}
    drawn = weights.draw_all(manifest, seed=1)
    assert drawn["a.weight"] is drawn["b.weight"]
