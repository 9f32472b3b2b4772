"""How fast `say` is and how much memory it takes, for a sentence and for a page.

python benchmarks/say.py [--weights FOLDER] [--seconds 5 300]

One JSON line a clip: seconds of media, rtf (wall time from the call to the closed file over media time),
seconds to the first chunk, and the peak memory of the process so far, which the page must not raise by much.
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
    """About so many seconds of speech."""
    count = max(1, round(seconds / SECONDS_EACH))
    return " ".join(SENTENCES[k % len(SENTENCES)] for k in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a shipped model or the folder of a native checkpoint")
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
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
