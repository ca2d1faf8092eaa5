"""Choice of the bundled network that suits a source: one for compressed video, or the paper's for clean frames."""

from __future__ import annotations

from dataclasses import dataclass

from ksnet_deploy.upscale.networks import default_model, video_model
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.sources import lossy_codec_of
from ksnet_deploy.video.reading.stills import is_picture

__all__ = ["Choice", "choose_network"]


@dataclass(frozen=True)
class Choice:
    """Bundled network, and why it was chosen."""

    name: str
    reason: str

    def sentence(self, remedy: str = "choose another with --model") -> str:
        """Sentence that a user is told; it ends in how to have another."""
        return f"Using the network '{self.name}': {self.reason}; {remedy}."


def choose_network(source: Source, device: str | None = None) -> Choice:
    """The network for a source: the one for compressed video where its codec is lossy and there is one.

    Raises:
        InputError: the source cannot be read.
    """
    clean = default_model(device)
    if source.kind == "pipe":
        return Choice(clean, "frames from a pipe are taken as clean")
    if source.kind == "folder" or is_picture(source):
        return Choice(clean, "pictures are taken as clean")
    codec = lossy_codec_of(source)
    if codec is None:
        return Choice(clean, "the source's codec is lossless")
    for_video = video_model(device)
    if for_video is None:
        return Choice(clean, f"no bundled network was trained on compressed video ({codec})")
    return Choice(for_video, f"the source is compressed ({codec})")
