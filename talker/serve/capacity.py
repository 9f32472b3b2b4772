"""Measures how many rows a batch can have on this machine, and how many sessions it can run at once."""

from __future__ import annotations

import dataclasses
import logging
import math

from talker.clips.idle import IdleLoop
from talker.clips.say import LiveUtterance
from talker.generation.running_batch import CAPACITIES
from talker.identity import Portrait, Voice
from talker.serve.inputs import TextInput
from talker.serve.session import Limits, Session
from talker.system import System

log = logging.getLogger(__name__)

LARGEST_RTF = 0.85  # of a lone session
LARGEST_SHARED_RTF = 0.95  # of the slowest of several sessions
TEXT = "This sentence is spoken to measure how fast this machine is. It takes a few seconds."


def measured_capacity(system: System, voice: Voice, portrait: Portrait) -> int:
    """The largest number of rows at which a lone session has an rtf of at most LARGEST_RTF, or 1."""
    best = CAPACITIES[0]
    for capacity in CAPACITIES:
        rtf = slowest_rtf(system, voice, portrait, capacity)
        log.info("with a capacity of %d, a lone session has an rtf of %.2f", capacity, rtf)
        if rtf > LARGEST_RTF:
            break
        best = capacity
    return best


def measured_sessions(system: System, voice: Voice, portrait: Portrait, capacity: int) -> int:
    """The largest number of sessions whose slowest has an rtf of at most LARGEST_SHARED_RTF, or 1.

    A step costs the same for one row as for all, but every session also renders and encodes. At most
    `capacity` sessions are tried: 2, 4, 8 and 16.
    """
    best, count = 1, 2
    while count <= capacity:
        rtf = slowest_rtf(system, voice, portrait, capacity, count)
        log.info("of %d sessions at once, the slowest has an rtf of %.2f", count, rtf)
        if rtf > LARGEST_SHARED_RTF:
            break
        best, count = count, 2 * count
    return best


def slowest_rtf(system: System, voice: Voice, portrait: Portrait, capacity: int, count: int = 1) -> float:
    """Real-time factor of the slowest of `count` sessions at once, in a batch of `capacity` rows.

    It includes rendering and encoding.
    """
    limits = dataclasses.replace(Limits(), ahead=math.inf)
    with system.generator.scheduler(capacity) as scheduler:
        sessions = []
        for _ in range(count):
            feed = TextInput(system)
            feed.whole(TEXT)
            clip = LiveUtterance(system, feed.channel, voice, portrait, seed=0)
            loop = IdleLoop(system, portrait, scheduler.submit)
            sessions.append(Session(clip, feed, scheduler.submit, loop, limits, lambda _: None))
        for session in sessions:
            session.join()
    for session in sessions:
        if session.error is not None:
            raise session.error
    return max(session.rtf for session in sessions if session.rtf is not None)
