"""A session streams what the offline result contains, whoever else is there and whatever they do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import gc
import io
import threading
import time
import weakref
from collections.abc import Callable

import av
import numpy as np
import pytest
import torch
from serve_sessions import CAPACITY, Speak, read
from takes import QUICK, joined

from talker import Talker
from talker.clips.animate import LiveAnimation
from talker.clips.clip import Take
from talker.clips.record import Record
from talker.media.fragments import LEAD
from talker.media.readers import stream_audio
from talker.serve.captions import Caption, Captions, milliseconds
from talker.serve.inputs import InputError, SoundInput, TextInput
from talker.serve.session import FragmentLost, Limits, Position, Session
from talker.serve.sessions import NotAdmitted, Sessions

TEXT = "Go on. Oh no!"
COMMAS = "We go and we go and we go on, and on."  # a part ends at the comma only if the text arrives


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition did not become true within 10 s"
        time.sleep(0.005)


def data_of(session, **options) -> bytes:
    return b"".join(fragment.data for fragment in read(session, **options))


def decoded(data: bytes) -> tuple[int, int]:
    """Number of frames and of samples."""
    with av.open(io.BytesIO(data)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    with av.open(io.BytesIO(data)) as container:
        return frames, sum(frame.samples for frame in container.decode(audio=0))


def test_a_session_streams_the_offline_result(talker: Talker, voice, portrait, speak: Speak, encoded) -> None:
    others = [speak("So we go on and on.", seed=5), speak(seed=6)]
    session = speak(TEXT, seed=3)
    fragments = read(session)
    (take,) = talker.map([talker.say(TEXT, voice, portrait, 3, QUICK)], capacity=CAPACITY)
    pcm, frames = joined(take)
    chunks = encoded[f"session {session.id}"]
    assert np.array_equal(np.concatenate([chunk[0] for chunk in chunks]), pcm)
    assert np.array_equal(np.concatenate([chunk[1] for chunk in chunks]), frames)
    assert session.finish_reason == take.finish_reason
    shown, heard = decoded(b"".join(fragment.data for fragment in fragments))
    assert shown == len(frames)
    assert 0 <= heard - len(pcm) - LEAD <= 2048
    assert [part.index for part in fragments] == list(range(len(fragments)))
    assert [part.first_frame for part in fragments[:-1]] == list(range(0, len(frames), 4))
    keys = [part.first_frame for part in fragments if part.has_keyframe]
    assert keys == [frame // 4 * 4 for frame in range(0, len(frames), 25)]
    assert session.position.generated_ms == len(frames) * 40
    assert session.first_chunk_seconds is not None
    assert 0 < session.first_chunk_seconds < session.busy_seconds
    assert (session._listeners, session._ticket, session.needs_priority) == ([], None, False)
    assert others[0].error is None


def test_arriving_sound_is_streamed_like_the_recording(
    talker: Talker, portrait, folder, sessions: Sessions, encoded
) -> None:
    pcm = torch.cat(list(stream_audio(folder / "voice.wav"))).numpy()
    feed = SoundInput()
    live = LiveAnimation(talker.system, feed.channel, portrait, None, 2, QUICK)
    session = sessions.start(live, feed)
    data = (pcm * 32768).astype("<i2").tobytes()
    for start in range(0, len(data), 1234):
        feed.append(base64.b64encode(data[start : start + 1234]).decode(), session.samples)
    feed.end()
    shown, _ = decoded(data_of(session))
    assert shown == -(-len(pcm) // 960)
    sound = np.concatenate([chunk[0] for chunk in encoded[f"session {session.id}"]])
    assert np.array_equal(sound, np.frombuffer(data, "<i2") / np.float32(32768))
    assert session.finish_reason == "stop"


def test_other_sessions_are_unchanged_by_interruption_disconnection_and_a_slow_reader(speak: Speak) -> None:
    alone = data_of(speak(TEXT, seed=3))
    interrupted, gone, slow = (speak("So we go on and on and on and on.", seed=k) for k in (1, 2, 4))
    session = speak(TEXT, seed=3)
    until(lambda: interrupted.samples)
    interrupted.stop()
    gone.detach()
    assert data_of(session) == alone
    assert (interrupted.finish_reason, interrupted.stop_code) == ("interrupted", None)
    again = speak(TEXT, seed=3)  # in the row of the interrupted one
    assert data_of(again) == alone
    assert slow.error is None


# -- the end -------------------------------------------------------------------------------------------------


def test_stopping_frees_the_row_and_ends_the_thread(speak: Speak, sessions: Sessions) -> None:
    running = [speak("So we go on and on and on and on.", seed=k) for k in range(CAPACITY)]
    with pytest.raises(NotAdmitted) as refused:
        speak(TEXT)
    assert (refused.value.code, refused.value.retry_after) == ("at_capacity", 5)
    running[2].stop()
    until(lambda: running[2].finished)
    assert all(part.frames for part in running[2]._fragments)  # without the end of the sound
    assert decoded(data_of(speak("Go.")))[0] > 0
    assert all(not session.stopped for session in (running[0], running[1], running[3]))


def test_an_ended_session_is_freed_at_once(speak: Speak, sessions: Sessions) -> None:
    session = speak("Go.")
    read(session)
    session.join()
    sessions.end(session)
    found = weakref.ref(session)
    gc.disable()  # it would also free what refers to itself, but later
    try:
        del session
        assert found() is None
    finally:
        gc.enable()


def test_stopping_ends_a_session_that_waits_for_text(speak: Speak) -> None:
    session = speak()
    session.stop()
    session.join()
    assert (session.finish_reason, session.position.generated_ms) == ("interrupted", 0)
    session.feed.append("No one reads this. Or this.")


def test_a_session_in_all_rows_waits_for_a_client_only_briefly_if_another_wants_to_start(
    speak: Speak, sessions: Sessions
) -> None:
    running = [speak("So we go on and on and on and on.", seed=k) for k in range(CAPACITY)]
    running[1].detach()
    with pytest.raises(NotAdmitted) as refused:
        speak(TEXT)
    assert refused.value.retry_after == 5
    sessions.limits = dataclasses.replace(sessions.limits, hold_when_full=0.0)
    assert decoded(data_of(speak("Go.")))[0] > 0
    assert running[1].stopped
    assert sessions.get(running[1].id) is None


def test_a_session_needs_priority_until_it_is_comfortably_ahead_of_its_client(speak: Speak) -> None:
    session = speak()
    assert not session.needs_priority  # it waits for text
    session.limits = dataclasses.replace(session.limits, ahead=0.1, comfortable=10.0, slow_reader=10.0)
    session.feed.append("So we go on and on and on and on. And ")
    until(lambda: session.samples)
    assert session.needs_priority
    session.limits = dataclasses.replace(session.limits, comfortable=0.1)
    assert not session.needs_priority


def test_a_session_is_behind_when_its_chunks_take_longer_than_they_last(speak: Speak) -> None:
    session = speak("Go.")
    until(lambda: session.finished)
    assert not session.is_behind
    session.busy_seconds = session.samples / 24_000 + session.limits.behind + 0.01
    assert session.is_behind


# -- without input -------------------------------------------------------------------------------------------


def follow(session: Session, played: list[float]) -> threading.Thread:
    """Read a session in a thread; `played`: the playback position in milliseconds."""

    async def reading() -> None:
        async for fragment in session.follow(0):
            session.report_sent(fragment)
            session.report_playback(int(played[0]))

    thread = threading.Thread(target=lambda: asyncio.run(reading()))
    thread.start()
    return thread


def test_a_session_without_input_waits_without_a_row_and_just_ahead_of_its_client(
    speak: Speak, sessions: Sessions, encoded
) -> None:
    sessions.limits = dataclasses.replace(sessions.limits, pause=0.2, slow_reader=5.0)
    waiting, played = [speak() for _ in range(2)], [0.0]
    assert waiting[0].clip.idle.loop is waiting[1].clip.idle.loop
    waiting[1].stop()
    (session, _) = waiting
    reader = follow(session, played)
    until(lambda: session.position.sent_ms >= 480)
    assert session.waits
    time.sleep(0.1)
    assert session.position.generated_ms - session.position.sent_ms == 0
    assert session.position.generated_ms < 2000  # `played` does not advance
    assert (session.rtf, session.first_chunk_seconds) == (None, None)
    others = [speak("Go.", seed=k) for k in range(3)]
    assert all(data_of(other) for other in others)
    before = session.position.generated_ms
    session.feed.append(TEXT)
    session.feed.end()
    played[0] = 10**6
    reader.join()
    chunks = encoded[f"session {session.id}"]
    assert session.finish_reason == "length"
    assert session.position.generated_ms == 40 * sum(len(frames) for _, frames in chunks) > before
    assert session.first_chunk_seconds > 0
    assert captions_of(session)[0].start_ms >= milliseconds(before // 40 - 30)


def captions_of(session: Session) -> list[Caption]:
    return [caption for part in session._fragments for caption in part.captions]


def test_an_interrupted_session_drops_its_text_and_speaks_the_next_one(
    speak: Speak, sessions: Sessions, encoded
) -> None:
    sessions.limits = dataclasses.replace(sessions.limits, pause=0.1, ahead=1.0, slow_reader=5.0)
    session, played = speak(seed=3), [0.0]
    reader = follow(session, played)
    session.feed.append("So we go on and on and on and on. And on and on we go. Not this ")
    until(lambda: session.position.sent_ms > 600)
    ticket = session._ticket
    session.interrupt()
    session.wait_for_interruption()
    position = session.position
    assert ticket.finish_reason == "interrupted"
    assert position.generated_ms == 40 * session._encoder.frames
    assert position.sent_ms <= position.generated_ms
    played[0] = 10**6
    session.report_playback(10**6)
    until(lambda: session.position.generated_ms > position.generated_ms + 300)
    assert session.waits
    session.feed.append("Go.")
    session.feed.end()
    reader.join()
    spoken = [part.text for part in captions_of(session) if part.start_ms > position.generated_ms]
    assert {*spoken} <= {"Go", "Go."}  # random weights do not reach every word
    assert (session.finish_reason, session.stopped, session.error) == ("length", False, None)
    frames = np.concatenate([chunk[1] for chunk in encoded[f"session {session.id}"]])
    shown, _ = decoded(b"".join(part.data for part in session._fragments))
    assert shown == len(frames)


def test_interrupting_twice_or_while_the_face_waits_changes_nothing(speak: Speak, sessions: Sessions) -> None:
    sessions.limits = dataclasses.replace(sessions.limits, pause=0.1, slow_reader=5.0)
    session, played = speak(), [10.0**6]
    reader = follow(session, played)
    for _ in range(3):
        session.interrupt()
        session.wait_for_interruption()
    until(lambda: session.position.generated_ms > 200)
    session.interrupt()
    session.stop()
    session.wait_for_interruption()
    reader.join()
    session.join()
    assert (session.finish_reason, session.error) == ("interrupted", None)


# -- waiting -------------------------------------------------------------------------------------------------


def test_a_session_waits_for_the_playback_of_what_was_sent(speak: Speak, sessions: Sessions) -> None:
    sessions.limits = dataclasses.replace(sessions.limits, ahead=0.5)
    session = speak(TEXT)
    session.report_playback(10**6)
    until(lambda: session.position.generated_ms > 500)
    time.sleep(0.1)
    assert session.position == Position(640, 0, 10**6)
    fragments = read(session)
    assert session.stop_code is None
    assert session.position.sent_ms == 40 * sum(part.frames for part in fragments) > 640


def test_a_client_that_does_not_report_its_playback_ends_its_session(
    speak: Speak, sessions: Sessions
) -> None:
    sessions.limits = dataclasses.replace(sessions.limits, ahead=0.5, slow_reader=0.2)
    session = speak(TEXT)
    for _ in range(10):
        time.sleep(0.05)
        session.report_playback(0)  # a player that is paused
    assert not session.stopped
    read(session, plays=False)
    assert (session.stop_code, session.finish_reason) == ("slow_reader", "interrupted")
    assert session.position == Position(640, 640, 0)


def test_a_detached_session_pauses_and_continues_with_the_same_bytes(speak: Speak) -> None:
    whole = read(speak(TEXT, seed=3))
    session = speak(TEXT, seed=3)
    until(lambda: session.samples)
    session.detach()
    time.sleep(0.1)
    before = session.samples
    time.sleep(0.1)
    assert session.samples == before or session.finished
    session.attach(lambda: None)
    assert [part.data for part in read(session)] == [part.data for part in whole]
    assert [part.data for part in read(session, index=3)] == [part.data for part in whole[3:]]


def test_sessions_beyond_their_time_limits_end(speak: Speak, sessions: Sessions) -> None:
    def watch(**limits: float) -> None:
        async def for_a_while() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(sessions.watch(), 0.35)

        sessions.limits = dataclasses.replace(Limits(), **limits)
        asyncio.run(for_a_while())

    session = speak()
    watch()
    assert not session.stopped
    watch(idle=0.1)
    assert session.stop_code == "idle"
    session = speak()
    watch(total=0.1)
    assert session.stop_code == "too_long"
    session = speak()
    session.detach()
    watch(hold=0.1)
    assert (session.stopped, sessions.get(session.id)) == (True, None)


def test_only_the_last_fragments_are_kept(speak: Speak, sessions: Sessions) -> None:
    sessions.limits = dataclasses.replace(sessions.limits, kept=1.2)
    session = speak(TEXT)
    until(lambda: session.finished)
    total = session.position.generated_ms // 40
    with pytest.raises(FragmentLost, match="oldest one"):
        read(session)
    first = session.oldest_keyframe()
    fragments = read(session, index=first)
    shown, _ = decoded(session.init + b"".join(part.data for part in fragments))
    assert shown == total - 25 > 0  # the keyframe of the second second is kept


# -- captions ------------------------------------------------------------------------------------------------


def test_captions_are_in_order_and_reach_to_the_end_of_their_sentence(speak: Speak) -> None:
    session = speak(TEXT, seed=3)
    captions = [caption for part in read(session) for caption in part.captions]
    times = [time for caption in captions for time in (caption.start_ms, caption.end_ms)]
    texts = [caption.text for caption in captions]  # random weights do not reach every word
    assert texts == [word for word in TEXT.split() if word in texts]
    assert times == sorted(times)
    assert times[-1] == milliseconds(session.position.generated_ms // 40)


def test_times_of_the_stream_include_the_silence_before_the_first_sample() -> None:
    assert [milliseconds(frame) for frame in (0, 1, 25)] == [round(LEAD / 24) + 40 * k for k in (0, 1, 25)]
    assert milliseconds(0) > 0


class Sentence:
    """Patches of a request, of which only the words and the end are read."""

    def __init__(self, *words: tuple[str, int]) -> None:
        self.words, self.finish_reason = list(words), None


def test_a_word_is_captioned_when_it_has_ended_and_a_sentence_without_words_as_a_whole() -> None:
    take = Take(None)
    take.record = record = Record(4)
    captions, words, whole = Captions(take), Sentence(("Go", 1)), Sentence()
    captions.begin("Go on.", words)
    assert captions.new(0) == []  # before the first patch
    record.begin(words)
    assert captions.new(0) == []
    words.words.append(("on.", 3))
    assert captions.new(4) == [Caption("Go", milliseconds(1), milliseconds(3))]
    record.patches, words.finish_reason = 3, "stop"
    assert captions.new(8) == []  # one patch is not decoded yet
    assert captions.new(12) == [Caption("on.", milliseconds(3), milliseconds(12))]
    captions.begin("Oh no!", whole)
    record.end()
    record.begin(whole)
    record.patches, whole.finish_reason = 5, "stop"
    assert captions.new(16) == []
    record.end()
    record.patches = 8  # patches of a face that waits
    assert captions.new(24) == [Caption("Oh no!", milliseconds(12), milliseconds(20))]
    captions.begin("", Sentence())
    record.begin(Sentence())
    assert captions.new(40) == []


# -- input ---------------------------------------------------------------------------------------------------


def test_input_that_cannot_be_used_is_refused_and_the_rest_is_kept(talker: Talker) -> None:
    text = TextInput(talker.system)
    with pytest.raises(InputError, match="French"):
        TextInput(talker.system).whole("Go on. Je ne sais pas où vous êtes, merci beaucoup. Et vous?")
    with pytest.raises(InputError, match="French") as refused:
        text.append("Go on. Je ne sais pas où vous êtes, merci beaucoup. Oh no! And then ")
    assert refused.value.code == "invalid_text"
    text.end()
    assert list(text.channel) == ["Go on.", "Oh no!", "And then"]
    with pytest.raises(InputError, match="ended"):
        text.append("More")
    with pytest.raises(InputError, match="100,000"):
        TextInput(talker.system).append("a" * 100_001)
    for audio, message in (("?", "base64"), ("AAA=", None), ("AA==", "odd"), ("AAAA" * 2_000_000, "waiting")):
        sound = SoundInput()
        if message is None:
            sound.append(audio, 0)
            continue
        with pytest.raises(InputError, match=message):
            sound.append(audio, 0)
    for _ in range(2):
        sound.append("AAAA" * 1_900_000, 0)  # nearly as much as may wait
        sound.clear()


def test_a_text_that_is_known_as_a_whole_has_the_sentences_of_say(talker: Talker, voice) -> None:
    whole, pieces = TextInput(talker.system), TextInput(talker.system)
    whole.whole(COMMAS)
    pieces.append(COMMAS)
    pieces.end()
    assert tuple(whole.channel) == talker.say(COMMAS, voice, audio_only=True).sentences == (COMMAS,)
    assert list(pieces.channel) == ["We go and we go and we go on,", "and on."]
