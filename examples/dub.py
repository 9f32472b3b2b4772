"""Replace the speech of a video: new words in another voice that fit the lips."""

from talker import Talker

talker = Talker.from_pretrained()
text = "These words were spoken by somebody else."
talker.say(text, talker.voice("frank"), talker.portrait("frank")).save("frank.mp4")
report = talker.dub("frank.mp4", text, talker.voice("ada")).save("dubbed.mp4")
print(f"{report.output}: {report.duration_seconds} s ({report.finish_reason})")
