"""A video four times larger, with its progress: python examples/upscale_file.py VIDEO [OUTPUT].

It keeps sound, subtitles and timestamps; run it again to go on after an interruption.
"""

from __future__ import annotations

import sys

from ksnet_deploy import Events, KSNetError, Upscaler, UpscaleResult, upscale_video


class Progress:
    """Prints what upscale_video tells."""

    def __init__(self) -> None:
        self.frames: int | None = None
        self.done = 0

    def start(self, size: object, frames: int | None, done: int) -> None:
        self.frames, self.done = frames, done
        print(f"frames of {size}, {frames or 'unknown number'}, {done} done by an earlier run")

    def frame(self) -> None:
        self.done += 1
        if self.done % 25 == 0 or self.done == self.frames:
            print(f"{self.done} of {self.frames or '?'}")

    def note(self, sentence: str) -> None:
        print(sentence)


def main(source: str, target: str | None, network: Upscaler | str = "lite") -> UpscaleResult:
    progress = Progress()
    events = Events(on_start=progress.start, on_frame=progress.frame, on_note=progress.note)
    result = upscale_video(source, target, network, codec="hevc", events=events)
    print(f"{result.target}: {result.frames} frames of {result.size}, {result.fps:.1f} fps")
    for note in result.notes:
        print(note)
    return result


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("Usage: python examples/upscale_file.py VIDEO [OUTPUT]")
    try:
        main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None)
    except KSNetError as error:
        sys.exit(f"Error: {error}")
