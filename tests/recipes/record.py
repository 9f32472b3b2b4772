"""Write recorded.json: what every recipe logs in the two steps of `test_every_recipe.py`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from test_every_recipe import FORMS, RECORDED, SHORT, VARYING
from tiny_recipes import RECIPES, tiny


def main() -> None:
    torch.set_num_threads(1)
    recorded = {}
    for form in FORMS:
        name, settings = form.values
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            RECIPES[name](Path(folder), tiny(name, *SHORT, *settings))
            rows = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
        kept = [{key: value for key, value in row.items() if key not in VARYING} for row in rows]
        recorded[form.id] = kept
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
