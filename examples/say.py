"""Make a video of a face that speaks a text."""

from talker import Talker

talker = Talker.from_pretrained()  # the default model, which is part of the package
voice, portrait = talker.voice("ben"), talker.portrait("ben")
clip = talker.say("The train leaves at seven, so let's meet at six thirty.", voice, portrait)
report = clip.save("say.mp4")
print(f"{report.output}: {report.duration_seconds} s, made in {report.rtf * report.duration_seconds:.1f} s")
