"""The number of text tokens spoken by any time of a corpus clip, computed from its phoneme times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from puppet.speech import PAUSE, Phoneme
from talker.text.phonemes import PHONES
from talker.text.tokenizer import PhonemeTokenizer

_VOWELS = frozenset(phone for phone in PHONES if phone[0] in "iɪɛæɑɔʊuʌəɜɚɐeao")
_GAP_COST = 0.7
DECAY_SECONDS = 0.25  # from the end of the last sound until all text tokens count as spoken


def tokens_read(
    ids: Sequence[int], phonemes: Sequence[Phoneme], times: NDArray[np.float64], tokenizer: PhonemeTokenizer
) -> NDArray[np.float32]:
    """Number of text tokens (fractional) spoken by each of `times`.

    It is 0 before the first sound and len(ids) from DECAY_SECONDS after the last one. The phones of the text
    are first aligned with the spoken ones, because the two can differ. Word boundaries and punctuation take
    the time between their neighbours.

    Args:
        ids: tokens of the text.
        phonemes: spoken phones with their times.
        times: (n,) in seconds.
        tokenizer: the one that made `ids`.

    Returns:
        (n,) values in 0..len(ids).
    """
    if not ids:
        return np.zeros(len(times), np.float32)
    names = [tokenizer.decode([index]).lstrip("ˈˌ") for index in ids]
    phones = [k for k, name in enumerate(names) if name in PHONES]
    sounds = [one for one in phonemes if one.symbol != PAUSE]
    at, read = [0.0], [0.0]
    for i, j in _align([names[k] for k in phones], [one.symbol for one in sounds]):
        at += [max(at[-1], sounds[j].start), max(at[-1], sounds[j].end)]
        read += [float(phones[i]), float(phones[i] + 1)]
    at.append(at[-1] + DECAY_SECONDS)
    read.append(float(len(ids)))
    return np.interp(times, at, read).astype(np.float32)


def _substitution_cost(written: str, spoken: str) -> float:
    if written == spoken:
        return 0.0
    return 0.6 if (written in _VOWELS) == (spoken in _VOWELS) else 1.2


def _align(written: Sequence[str], spoken: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs (i, j), both increasing, of the alignment with the lowest cost; gaps are left out."""
    rows, columns = len(written) + 1, len(spoken) + 1
    total = np.zeros((rows, columns))
    total[:, 0], total[0] = np.arange(rows) * _GAP_COST, np.arange(columns) * _GAP_COST
    for i in range(1, rows):
        for j in range(1, columns):
            total[i, j] = min(
                total[i - 1, j - 1] + _substitution_cost(written[i - 1], spoken[j - 1]),
                total[i - 1, j] + _GAP_COST,
                total[i, j - 1] + _GAP_COST,
            )
    pairs = []
    i, j = rows - 1, columns - 1
    while i and j:
        if np.isclose(total[i, j], total[i - 1, j - 1] + _substitution_cost(written[i - 1], spoken[j - 1])):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif np.isclose(total[i, j], total[i - 1, j] + _GAP_COST):
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
