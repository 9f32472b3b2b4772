"""Measures how many sessions this machine can run at once."""

from __future__ import annotations

import dataclasses
import logging
import math

from talker.clips.say import LiveUtterance
from talker.generation.running_batch import CAPACITIES
from talker.identity import Portrait, Voice
from talker.serve.inputs import TextInput
from talker.serve.session import Limits, Session
from talker.system import System

log = logging.getLogger(__name__)

LARGEST_RTF = 0.85
TEXT = "This sentence is spoken to measure how fast this machine is. It takes a few seconds."


def measured_capacity(system: System, voice: Voice, portrait: Portrait) -> int:
    """The largest number of rows at which a lone session has an rtf of at most LARGEST_RTF, or 1."""
    best = CAPACITIES[0]
    for capacity in CAPACITIES:
        rtf = lone_rtf(system, voice, portrait, capacity)
        log.info("with a capacity of %d, a lone session has an rtf of %.2f", capacity, rtf)
        if rtf > LARGEST_RTF:
            break
        best = capacity
    return best


def lone_rtf(system: System, voice: Voice, portrait: Portrait, capacity: int) -> float:
    """Real-time factor of a session, with rendering and encoding, in a batch of `capacity` rows."""
    feed = TextInput(system)
    feed.whole(TEXT)
    clip = LiveUtterance(system, feed.sentences, voice, portrait, seed=0)
    with system.generator.scheduler(capacity) as scheduler:
        limits = dataclasses.replace(Limits(), ahead=math.inf)
        session = Session(clip, feed, scheduler.submit, limits, lambda _: None)
        session.join()
    if session.error is not None:
        raise session.error
    assert session.rtf is not None
    return session.rtf
