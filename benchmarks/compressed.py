"""What networks are worth on compressed video: PSNR, SSIM and flicker over the encoder's quality.

    python benchmarks/compressed.py --data validation=CLIPS --data vid4=VID4 [--models lite uni MY.safetensors]
    python benchmarks/compressed.py --data validation=CLIPS --clips 6 --frames 5 --no-warping    # minutes on a CPU

LR is made by bicubic (BI), encoded by x264 as a whole clip (or another ``--codec``; preset medium where it has presets,
keyframes every 250 frames), decoded and enlarged; "clean" leaves the encoder out. Every method gets the same LR,
bicubic among them. Figures are means over frames, then over clips. ``least_gain_db`` is the PSNR over bicubic of the
clip that gains least. ``warping_error`` is flicker along the original's motion.

Rows are added to ``--output`` as they come, those of the same measurement replaced, so that a network can be added
later; rows of a network of the same name with other weights, or of another version of the encoder, are left out then,
for no line of the plot is to be of two. The plot beside it shows all rows of the same clips, frames and codec. The
machine does not matter for them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import numpy as np
from arguments import positive, result_path
from numpy.typing import NDArray
from writing import write_json

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.version import __version__
from ksnet_deploy.measure.evaluation import BicubicMethod, EvaluationReport, Method, NetworkMethod, evaluate
from ksnet_deploy.measure.plotting import check_plotting
from ksnet_deploy.measure.protocols import PROTOCOLS, pairs
from ksnet_deploy.measure.warping import WarpingError
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.upscale.networks import find_network
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.clips.clip import Clip, Region
from ksnet_deploy.video.compression import CodecName, Compression

KEYS = ("data", "clips", "frames", "codec", "quality", "method")
"""What a row is of; another measurement of the same takes its place."""
MODELS = ("lite", "lite-video", "uni")
COLUMNS = (
    ("psnr_db", "PSNR over bicubic in dB", lambda found, bicubic: found - bicubic),
    ("ssim", "SSIM over bicubic", lambda found, bicubic: found - bicubic),
    ("warping_error", "flicker by bicubic's", lambda found, bicubic: found / bicubic),
)


class Beginning(Clip):
    """The first frames of a clip."""

    def __init__(self, clip: Clip, frames: int) -> None:
        self._clip, self.name, self.path = clip, clip.name, clip.path
        self.frames, self.height, self.width = min(frames, clip.frames), clip.height, clip.width

    def read(self, start: int, count: int, region: Region | None = None) -> NDArray[np.uint8]:
        return self._clip.read(start, count, region)

    def release(self) -> None:
        self._clip.release()


def read_clips(folder: Path, count: int | None, frames: int) -> list[tuple[Clip, None]]:
    """So many of the folder's clips, spread evenly over their names; stills are left out."""
    found = [clip for clip, _ in pairs(folder, None, PROTOCOLS["folder"], mod_crop=True) if clip.frames > 1]
    count = min(count or len(found), len(found))
    chosen = [found[int(index)] for index in np.linspace(0, len(found) - 1, count).round()] if count else []
    return [(Beginning(clip, frames), None) for clip in chosen]


def without_stale(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that can stand beside a new one: not the same measurement, nor another network's under its name, nor of
    another version of its encoder."""

    def stands(known: dict[str, Any]) -> bool:
        if any(known[key] != row[key] for key in KEYS[:4]):
            return True
        if known["method"] == row["method"] and known["weights_sha256"] != row["weights_sha256"]:
            return False
        if None not in (known["encoder"], row["encoder"]) and known["encoder"] != row["encoder"]:
            return False
        return any(known[key] != row[key] for key in KEYS[4:])

    return [known for known in rows if stands(known)]


def row_of(report: EvaluationReport, bicubic: EvaluationReport) -> dict[str, Any]:
    gains = [a.psnr_db - b.psnr_db for a, b in zip(report.clips, bicubic.clips, strict=True)]
    return {
        "method": report.method,
        **{name: report.mean(name) for name in ("psnr_db", "ssim", "warping_error")},
        "gain_db": float(np.mean(gains)),
        "least_gain_db": min(gains),
        "worst_clip": report.clips[int(np.argmin(gains))].name,
    }


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A line of panels for each data set, a line in each for every method."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["data"] for row in rows))
    columns = [column for column in COLUMNS if any(row[column[0]] is not None for row in rows)]
    figure = Figure(figsize=(4 * len(columns), 3.2 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), len(columns), squeeze=False)
    for name, line in zip(names, panels, strict=True):
        of_data = [row for row in rows if row["data"] == name]
        qualities = sorted({row["quality"] for row in of_data}, key=lambda quality: -1 if quality is None else quality)
        values = {(row["method"], row["quality"]): row for row in of_data}
        for axes, (figure_name, title, relate) in zip(line, columns, strict=True):
            for method in dict.fromkeys(row["method"] for row in of_data):
                places = [q for q in qualities if values.get((method, q), {}).get(figure_name) is not None]
                relative = [relate(values[method, q][figure_name], values["bicubic", q][figure_name]) for q in places]
                axes.plot([qualities.index(q) for q in places], relative, marker="o", label=method)
            axes.set_xticks(range(len(qualities)), ["clean" if q is None else str(q) for q in qualities])
            axes.set_xlabel(f"{of_data[0]['codec']} quality")
            axes.set_title(f"{name}: {title}", fontsize="medium")
            axes.grid(alpha=0.3)
        line[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def named_folder(text: str) -> tuple[str, Path]:
    """Name and folder of ``--data``."""
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"'{text}' names no folder of clips; write NAME=FOLDER")
    return name, Path(folder)


def check_differ(names: Sequence[str], option: str, remedy: str) -> None:
    """End the program where two things that are told apart by their names have one."""
    for name in names:
        if names.count(name) > 1:
            raise SystemExit(f"Error: {option} has two that are called '{name}', whose rows would be one; {remedy}.")


def main() -> None:
    try:
        measure()
    except KSNetError as error:
        raise SystemExit(f"Error: {error}.") from error


def measure() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", action="append", required=True, type=named_folder, metavar="NAME=FOLDER", help="HR clips; repeatable"
    )
    parser.add_argument("--models", nargs="*", default=MODELS, help=f"names or files (default: {' '.join(MODELS)})")
    parser.add_argument("--codec", choices=get_args(CodecName), default="h264", help="(default: h264)")
    parser.add_argument("--qualities", type=int, nargs="+", default=[18, 23, 28, 33], help="(default: 18 23 28 33)")
    parser.add_argument("--clips", type=positive, help="so many of each folder (default: all)")
    parser.add_argument("--frames", type=positive, default=15, help="of each clip, its first ones (default: 15)")
    parser.add_argument("--no-warping", action="store_true", help="leave out flicker, which takes a flow network")
    parser.add_argument("--output", type=result_path, default=Path(__file__).parent / "results" / "compressed.json")
    options = parser.parse_args()
    names = {model: Path(model).stem for model in options.models}
    check_differ(["bicubic", *(Path(m).stem for m in options.models)], "--models", "give one a file of another name")
    check_differ([name for name, _ in options.data], "--data", "give one another name")
    encoded = [Compression.usual(options.codec, quality) for quality in options.qualities]
    files = {model: find_network(model, "onnxruntime") for model in options.models}
    weights = {name: sha256_of(files[model].path) for model, name in names.items()}
    picture = options.output.with_suffix(".png")
    check_plotting(picture, overwrite=True)
    all_clips = {name: read_clips(folder, options.clips, options.frames) for name, folder in options.data}
    for name, folder in options.data:
        if not all_clips[name]:
            raise SystemExit(f"Error: {folder} holds no clip of two frames or more; give another with --data {name}=.")

    rows: list[dict[str, Any]] = json.loads(options.output.read_text()) if options.output.exists() else []
    warping = None if options.no_warping else WarpingError(bundled_checkpoint("uni"), remember=True)
    seen = []
    for data, clips in all_clips.items():
        facts = {"data": data, "clips": len(clips), "frames": options.frames, "codec": options.codec}
        seen.append(tuple(facts.values()))
        for compression in (None, *encoded):

            def score(method: Method, compression: Compression | None = compression) -> EvaluationReport:
                return evaluate(clips, method, "folder", compression=compression, warping=warping)  # noqa: B023

            bicubic = score(BicubicMethod())
            reports = [bicubic]
            for model, file in files.items():
                with closing(NetworkMethod(names[model], lambda file=file: Upscaler(file))) as network:
                    reports.append(score(network))
            for report in reports:
                row = {
                    "version": __version__,
                    **facts,
                    "quality": None if compression is None else compression.quality,
                    "encoder": None if compression is None else compression.as_dict()["encoder"],
                    **row_of(report, bicubic),
                    "weights_sha256": weights.get(report.method),
                }
                print(json.dumps(row), flush=True)
                rows = [*without_stale(rows, row), row]
                write_json(options.output, rows)
    plot([row for row in rows if tuple(row[key] for key in KEYS[:4]) in seen], picture)
    print(f"written to {options.output} and {picture}")


if __name__ == "__main__":
    main()
