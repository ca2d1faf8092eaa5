"""The command that the others are for: upscale. ``cli.py`` adds it to the application."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ksnet_deploy.errors import ConfigError, KSNetError
from ksnet_deploy.models import default_model
from ksnet_deploy.terminal import Progress, complain, progress

if TYPE_CHECKING:
    from ksnet_deploy.estimate import Estimate
    from ksnet_deploy.result import UpscaleResult

__all__ = ["upscale"]

EXIT_FAILED, EXIT_INCOMPLETE = 1, 3


def upscale(
    inputs: Annotated[
        list[str], typer.Argument(help="Videos, folders of videos or frames, patterns; - for y4m.", metavar="VIDEO...")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A video, a folder (of videos, or PNG frames if new), or - for y4m."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A checkpoint, .onnx or .engine, 'uni' or 'lite'; lite on a CPU, uni on a GPU."
        ),
    ] = None,
    backend: Annotated[
        Literal["onnxruntime", "torch"] | None,
        typer.Option("--backend", help="What runs a checkpoint; ONNX Runtime unless told."),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option("--device", help="Where the network runs; the CPU unless told.")
    ] = None,
    codec: Annotated[
        str, typer.Option("--codec", help="h264, hevc, vp9, av1, prores, ffv1, or any FFmpeg encoder.")
    ] = "h264",
    crf: Annotated[int | None, typer.Option("--crf", help="Constant quality, on the encoder's scale.", min=0)] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Encoder preset, for example slow.")] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Resize to a height, for example 1080p, from four times the size.")
    ] = None,
    fps: Annotated[str, typer.Option("--fps", help="Of a folder of frames, for example 24 or 24000/1001.")] = "25",
    start: Annotated[str | None, typer.Option("--start", help="Begin there: seconds or [H:]M:S.")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Stop there.")] = None,
    tiles: Annotated[
        str,
        typer.Option("--tiles", help="Largest tiles of a frame, for example 270x480; 'auto' as memory allows; 'off'."),
    ] = "auto",
    cuts: Annotated[
        Path | None, typer.Option("--cuts", help="File of scene cuts, a frame number a line, instead of detection.")
    ] = None,
    scene_reset: Annotated[
        bool, typer.Option("--scene-reset/--no-scene-reset", help="Let the network forget the past at scene cuts.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with an unfinished job; else throw it away.")
    ] = True,
    keep_partial: Annotated[
        bool,
        typer.Option("--keep-partial", help="On Ctrl-C or a broken source, leave what is finished, as NAME.partial."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out videos that are done.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, and say from a few frames how long it takes.")
    ] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Write what was done to a .json file.")] = None,
    progress_as: Annotated[
        Literal["bar", "json", "none"], typer.Option("--progress", help="json: one object a line on standard error.")
    ] = "bar",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Upscale videos four times in width and height, with their sound, subtitles and timestamps."""
    from ksnet_deploy.files import check_new_file
    from ksnet_deploy.inputs import find_videos, parse_height, parse_rate, parse_tiles

    if cuts is not None and not scene_reset:
        raise ConfigError("--cuts and --no-scene-reset contradict each other; give one of them")
    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing contradict each other; give one of them")
    if report is not None:
        check_new_file(report, ".json", overwrite=overwrite)
    height = None if target is None else parse_height(target)
    tile_choice = parse_tiles(tiles)
    rate = parse_rate(fps)
    videos = find_videos(inputs)
    _check_output(output, len(videos))
    chosen = model or default_model(device)
    answers: list[dict[str, Any]] = []
    style = "none" if as_json and progress_as == "bar" else progress_as
    with progress("Upscaling", style=style) as bar:
        if model is None:
            bar.say(f"Using the network '{chosen}', the default on this device; choose another with --model.")

        def one(video: Path) -> dict[str, Any]:
            return _upscale_one(
                video,
                output,
                bar,
                chosen=chosen,
                backend=backend,
                device=device,
                codec=codec,
                crf=crf,
                preset=preset,
                height=height,
                rate=rate,
                start=start,
                end=end,
                tiles=tile_choice,
                cuts=cuts,
                scene_reset=scene_reset,
                resume=resume,
                keep_partial=keep_partial,
                overwrite=overwrite,
                skip_existing=skip_existing,
                dry_run=dry_run,
            )

        for video in videos:
            answers.append(one(video) if len(videos) == 1 else _isolated(one, video))
            if not as_json:
                (bar.say if answers[-1].get("output") == "-" else bar.say_result)(_text_of(answers[-1]))
    if report is not None:
        _write_report(report, answers)
    if as_json and all(answer.get("output") != "-" for answer in answers):
        print(json.dumps(answers[0] if len(answers) == 1 else {"videos": answers}))
    _leave(answers)


def _check_output(output: Path | None, videos: int) -> None:
    if videos > 1 and output is not None and not output.is_dir():
        raise ConfigError(f"{videos} videos cannot all be written to {output}; give an existing folder with --output")


def _isolated(one: Callable[[Path], dict[str, Any]], video: Path) -> dict[str, Any]:
    """What came of a video of several; one that fails does not keep the others from being done."""
    try:
        return one(video)
    except KSNetError as error:
        complain(str(error))
        return {"input": str(video), "error": str(error)}


def _upscale_one(video: Path, target: Path | None, bar: Progress, **options: Any) -> dict[str, Any]:
    from ksnet_deploy.estimate import estimate_video
    from ksnet_deploy.inputs import parse_time
    from ksnet_deploy.pipeline import existing_target, upscale_video
    from ksnet_deploy.result import Events
    from ksnet_deploy.scenes import GivenCuts, NoCuts, SceneDetector, read_cuts
    from ksnet_deploy.streaming import is_stream, upscale_frames
    from ksnet_deploy.upscaler import Upscaler
    from ksnet_deploy.video.encoders import choose_encoder

    encoder = choose_encoder(options["codec"], quality=options["crf"], speed=options["preset"])
    streaming = is_stream(video, target)
    if options["skip_existing"] and not streaming and (done := existing_target(video, target, encoder)) is not None:
        return {"input": str(video), "output": str(done), "skipped": True}
    start, end = (parse_time(text) if text is not None else None for text in (options["start"], options["end"]))
    cuts = options["cuts"]
    detector = GivenCuts(read_cuts(cuts)) if cuts else SceneDetector() if options["scene_reset"] else NoCuts()
    chosen = options["chosen"]
    upscaler = Upscaler(
        chosen, backend=options["backend"], device=options["device"], tiles=options["tiles"], on_note=bar.say
    )
    events = Events(
        on_start=lambda size, frames, done: bar.begin(f"{video.name}, {size} -> {size.upscaled}", frames, done),
        on_frame=bar.advance,
        on_note=bar.say,
    )
    common = {"start_s": start, "end_s": end, "rate": options["rate"], "overwrite": options["overwrite"]}
    if streaming:
        if options["dry_run"]:
            raise ConfigError("--dry-run is for videos, not for frames to a folder or a pipe; give a file as --output")
        if options["height"] is not None:
            raise ConfigError("--target resizes videos, not frames to a folder or a pipe; leave it out")
        result = upscale_frames(
            video,
            target,
            upscaler,
            detector=detector,
            events=events,
            **common,
        )
        return {"input": str(video), "model": chosen, **_answer_of(result)}
    common |= {"encoder": encoder, "height": options["height"], "events": events}
    if options["dry_run"]:
        return {"input": str(video), "model": chosen, **_estimated(estimate_video(video, target, upscaler, **common))}
    result = upscale_video(
        video,
        target,
        upscaler,
        detector=detector,
        resume=options["resume"],
        keep_partial=options["keep_partial"],
        **common,
    )
    return {"input": str(video), "model": chosen, **_answer_of(result)}


def _answer_of(result: UpscaleResult) -> dict[str, Any]:
    return {
        "output": str(result.target),
        "height": result.size.height,
        "width": result.size.width,
        "pixel_format": result.pixel_format,
        "frames": result.frames,
        "frames_lost": result.frames_lost,
        "resumed_frames": result.resumed_frames,
        "duplicates": result.duplicates,
        "tiles": result.tiles,
        "cuts_s": [round(cut, 3) for cut in result.cuts],
        "seconds": round(result.times.wall_s, 3),
        "fps": round(result.fps, 3),
        "stages_s": {name: round(busy, 3) for name, busy in result.times.busy_s.items()},
        "bottleneck": result.times.bottleneck,
        "stages": result.times.summary(),
        "notes": result.notes,
    }


def _estimated(estimate: Estimate) -> dict[str, Any]:
    return {
        "dry_run": True,
        "output": str(estimate.target),
        "height": estimate.size.height,
        "width": estimate.size.width,
        "pixel_format": estimate.pixel_format,
        "frames": estimate.frames,
        "fps": round(estimate.fps, 3),
        "seconds": None if estimate.seconds is None else round(estimate.seconds, 1),
        "bytes": estimate.bytes,
        "measured_frames": estimate.measured_frames,
        "tiles": estimate.tiles,
        "resumes": estimate.resumes,
    }


def _text_of_estimate(answer: dict[str, Any]) -> str:
    size = f"frames of {answer['height']}x{answer['width']} (height x width)"
    if answer["frames"] is None:
        takes = f"{size}, {answer['fps']:.2f} fps; the source does not say how many"
    else:
        duration = timedelta(seconds=max(round(answer["seconds"]), 1))
        takes = (
            f"{answer['frames']} {size} would take about {duration} (h:mm:ss, {answer['fps']:.2f} fps) and "
            f"{max(answer['bytes'] / 1e6, 0.1):,.1f} MB"
        )
    lines = [f"{answer['output']}: {takes}; measured on {answer['measured_frames']} frames, nothing was written."]
    if answer["resumes"]:
        lines.append("An unfinished job is there, which would be continued and take less.")
    return "\n".join(lines)


def _text_of(answer: dict[str, Any]) -> str:
    if "error" in answer:
        return f"{answer['input']}: failed"
    if "dry_run" in answer:
        return _text_of_estimate(answer)
    if "skipped" in answer:
        return f"{answer['input']}: left out, {answer['output']} exists"
    lines = [
        f"{answer['output']}: {answer['frames']} frames of {answer['height']}x{answer['width']} (height x width) in "
        f"{answer['seconds']:.1f} s, {answer['fps']:.2f} fps; {answer['stages']}"
    ]
    if answer["resumed_frames"]:
        lines.append(f"{answer['resumed_frames']} of the frames were finished by an earlier run.")
    if answer["cuts_s"] or answer["duplicates"]:
        lines.append(f"{len(answer['cuts_s'])} scene cuts; {answer['duplicates']} repeated frames cost nothing.")
    return "\n".join(lines + answer["notes"])


def _write_report(path: Path, answers: list[dict[str, Any]]) -> None:
    from ksnet_deploy import __version__
    from ksnet_deploy.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"ksnet_deploy": __version__, "videos": answers}, indent=2) + "\n")


def _leave(answers: list[dict[str, Any]]) -> None:
    """End with the exit code that says what came of it all."""
    for answer in answers:
        if answer.get("frames_lost"):
            complain(
                f"{answer['input']} is damaged: {answer['frames_lost']} frames could not be decoded, "
                f"{answer['frames']} were upscaled to {answer['output']}; get an intact copy of the video to have "
                "the rest"
            )
    failed = sum("error" in answer for answer in answers)
    if failed:
        complain(f"{failed} of {len(answers)} videos failed, each for the reason above; the others are done")
        raise typer.Exit(EXIT_FAILED)
    if any(answer.get("frames_lost") for answer in answers):
        raise typer.Exit(EXIT_INCOMPLETE)
