"""Speed and memory use of `say`, for a sentence and for a page.

python benchmarks/say.py [--model M] [--seconds 5 300]

Prints one line of JSON per clip: duration, real-time factor (wall time from the call to the closed file,
divided by the duration), seconds to the first chunk, and peak memory of the process so far. The peak of the
page should not be much higher than that of the sentence.
"""

import argparse
import dataclasses
import json
import resource
import tempfile
import time
from pathlib import Path

from talker import Talker

SENTENCES = (
    "The train to the coast leaves at seven in the morning, so we should meet a little earlier.",
    "My sister keeps two small dogs and an old grey cat in her house by the river.",
    "Would you like another cup of tea before the guests arrive?",
    "It rained for most of the week, but on Sunday the sky was clear and bright.",
    "He opened the letter slowly, read it twice, and put it back on the table.",
)
SECONDS_EACH = 4.5


def text_of(seconds: float) -> str:
    """A text of about `seconds` of speech."""
    count = max(1, round(seconds / SECONDS_EACH))
    return " ".join(SENTENCES[k % len(SENTENCES)] for k in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="name of a shipped model, or a checkpoint folder")
    parser.add_argument("--voice")
    parser.add_argument("--portrait")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5, 300])
    options = parser.parse_args()
    start = time.perf_counter()
    talker = Talker.from_pretrained(options.model)
    voice, face = talker.voice(options.voice), talker.portrait(options.portrait)
    print(
        json.dumps({"load_seconds": round(time.perf_counter() - start, 2), "peak_mib": peak_mib()}),
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for seconds in options.seconds:
            report = talker.say(text_of(seconds), voice, face).save(Path(folder) / "out.mp4")
            line = dataclasses.asdict(report) | {"peak_mib": peak_mib()}
            print(json.dumps({key: value for key, value in line.items() if key != "output"}), flush=True)


def peak_mib() -> int:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
