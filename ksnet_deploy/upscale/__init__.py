"""Upscaling one video, or a stream of frames, four times.

- ``run.py``: the front doors, with settings as users give them
- ``to_video.py``, ``to_frames.py``: from a source to a video file, to pictures or a pipe
- ``estimate.py``: how long and how large
- ``prepare.py``, ``plan.py``, ``output.py``: all checks before the first frame; what is done with each; the file
- ``work.py``, ``destination.py``, ``values.py``: what is asked for; where it goes; texts that users write
- ``job.py``, ``journal.py``: the unfinished job on disk, from which an interrupted one goes on; its lines
- ``segments.py``: runs of frames that are encoded together
- ``upscaler.py``, ``way.py``: frames in, frames out; the way that the network is run, and the next where it fails
- ``stages.py``, ``network_stage.py``: decoding, network and encoding at once; the middle one
- ``lanes.py``, ``side_by_side.py``: the middle one with several scenes side by side; what that takes
- ``windows.py``: windows that a bidirectional network takes frames in, and what they cost
- ``memory.py``, ``networks.py``: when tiles are needed; networks by name
- ``ladder.py``, ``rungs.py``: the fastest way to run a network here; runtimes and what was asked for
- ``card_engines.py``: its engines for this card
- ``precision.py``: precision on a CPU
- ``choice.py``: the bundled network that suits a source
- ``scenes.py``, ``picture_change.py``: scene cuts
- ``result.py``: what is reported
"""
