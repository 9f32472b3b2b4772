"""Generate several clips at once, in the order in which they are finished."""

from talker import Talker

talker = Talker.from_pretrained()
texts = {"morning": "Good morning.", "evening": "Good evening, and welcome back.", "night": "Good night."}
voice, portrait = talker.voice("daniel"), talker.portrait("daniel")

# A worker calls the functions that build the clips. An error of one clip does not affect the others.
plans = [
    lambda text=text, seed=seed: talker.say(text, voice, portrait, seed=seed)
    for seed, text in enumerate(texts.values())
]
for take in talker.map(plans, capacity=4, ordered=False):
    if take.error is not None:
        print(f"not made: {take.error}")
        continue
    report = take.save(f"{list(texts)[take.clip.seed]}.mp4")
    print(f"{report.output}: {report.duration_seconds} s ({report.finish_reason})")
