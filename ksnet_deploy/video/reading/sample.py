"""The first packets of the tracks that are copied or converted, on which a container is tried out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from ksnet_deploy.video.reading.sources import CopiedPacket

__all__ = ["SamplePacket", "first_packet", "first_packets"]

PACKETS = 200
"""Largest number of packets of each track."""
BYTES = 4 << 20
"""Most bytes of each track; more by its last packet."""
READ = 20_000
"""Packets that are looked at for it, at most: some tracks begin late, or never."""


@dataclass(frozen=True)
class SamplePacket:
    """A packet by value, which outlives the file that it was read from."""

    data: bytes = field(repr=False)
    pts: int | None
    dts: int | None
    duration: int | None
    time_base: Fraction
    is_keyframe: bool

    @classmethod
    def of(cls, packet: CopiedPacket) -> SamplePacket:
        return cls(bytes(packet), packet.pts, packet.dts, packet.duration, packet.time_base, bool(packet.is_keyframe))

    def packet_of(self, stream: Stream) -> CopiedPacket:
        """A new packet of a stream."""
        packet: CopiedPacket = Packet(self.data)
        packet.stream, packet.time_base = stream, self.time_base
        packet.pts, packet.dts, packet.duration = self.pts, self.dts, self.duration
        packet.is_keyframe = self.is_keyframe
        return packet


def first_packet(container: InputContainer, index: int) -> list[SamplePacket]:
    """The first packet of a track of a file that was just opened, if there is one."""
    packets = container.demux(container.streams[index])
    return [SamplePacket.of(packet) for packet in packets if packet.size][:1]


def first_packets(packets: Iterable[CopiedPacket], tracks: list[Stream]) -> dict[int, list[SamplePacket]]:
    """The first packets of each track, by its index.

    Args:
        packets: of these tracks, in file order.
        tracks: those of sound are waited for; of the others what comes meanwhile is taken.
    """
    found: dict[int, list[SamplePacket]] = {track.index: [] for track in tracks}
    sizes = dict.fromkeys(found, 0)
    waiting = {track.index for track in tracks if track.type == "audio"} or set(found)
    for number, packet in enumerate(packets, 1):
        index = packet.stream.index
        if len(found[index]) < PACKETS and sizes[index] < BYTES:
            found[index].append(SamplePacket.of(packet))
            sizes[index] += packet.size
        else:
            waiting.discard(index)
        if not waiting or number == READ:
            break
    return found
