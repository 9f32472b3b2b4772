"""The packets of a file, copied beside what is made from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from talker.media.audio import CLOSED, readable


def in_order(path: Path, kind: str) -> bool:
    """Whether a track's packets are stamped in their order, as no file is that was chained to another."""
    with closing(Source(path, kind, Fraction(0))) as source:
        stamps = (packet.dts for packet in source.stamped())
        return all(one < other for one, other in pairwise(stamps))


class Source:
    """A track of a file, read a second time beside what is made from it; `start` seconds become 0."""

    def __init__(self, path: Path, kind: str, start: Fraction) -> None:
        """`kind`: "audio" or "video"."""
        self._file = readable(path).open("rb")
        self._container = av.open(self._file, "r", options=CLOSED)
        streams: Any = self._container.streams
        self.track = (streams.audio if kind == "audio" else streams.video)[0]
        self.start = start

    def packets(self, into: Any) -> Iterator[tuple[float, av.Packet]]:
        """Every packet with its time in seconds, its stamps moved and its stream changed to `into`."""
        previous: int | None = None
        for packet in self.stamped():
            shift = round(self.start / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            if previous is not None:  # damaged stamps, which the muxer would refuse
                packet.dts = max(packet.dts, previous + 1)
                packet.pts = max(packet.pts, packet.dts)
            previous = packet.dts
            time = float(packet.dts * packet.time_base)
            packet.stream = into
            yield time, packet

    def first_decoded(self) -> Fraction:
        """When the first packet is to be decoded, in seconds; takes that packet."""
        packet = next(self.stamped(), None)
        return Fraction(0) if packet is None else packet.dts * packet.time_base

    def stamped(self) -> Iterator[Any]:
        """Packets with both stamps. Matroska does not say when the first ones are to be decoded: one duration
        before the other, up to the first that it knows.
        """
        waiting: list[Any] = []
        for packet in self._container.demux(self.track):
            if not packet.size or (packet.pts is None and packet.dts is None):
                continue
            waiting.append(packet)
            if packet.dts is not None:
                yield from _with_both(waiting, packet.dts)
                waiting = []
        yield from _with_both(waiting, waiting[-1].pts if waiting else 0)

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()


def _with_both(packets: list[Any], known: int) -> Iterator[Any]:
    """`known`: when the last of them is to be decoded."""
    for before, packet in zip(reversed(range(len(packets))), packets, strict=True):
        if packet.dts is None:
            packet.dts = known - before * max(1, packet.duration or 1)
        if packet.pts is None:
            packet.pts = packet.dts
        yield packet


class Beside:
    """Packets with their times, handed out as far as what is made beside them has come."""

    def __init__(self, packets: Iterator[tuple[float, av.Packet]]) -> None:
        self._packets = packets
        self._next = next(packets, None)

    def until(self, seconds: float) -> Iterator[av.Packet]:
        """Those before a time."""
        while self._next is not None and self._next[0] < seconds:
            yield self._next[1]
            self._next = next(self._packets, None)
