"""The commands ``bench``, ``info`` and ``models``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ksnet_deploy.cli.options import Json, Overwrite
from ksnet_deploy.cli.terminal import memory_sentence, progress, show_notes
from ksnet_deploy.network.bundled import checkpoint_path

if TYPE_CHECKING:
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.measure.speed.report import BenchReport
    from ksnet_deploy.measure.speed.subjects import Subject

EXIT_SLOWER = 1

Size = Annotated[
    str | None,
    typer.Option("--size", "-s", help="LR frame size, HEIGHTxWIDTH (default: 180x320; of an exported file, its own)."),
]


def bench(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A checkpoint, an .onnx, an .engine, or a bundled name; repeatable (default: what suits the clip, "
            "else lite, uni on a GPU).",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", "-s", help="LR frame size, HEIGHTxWIDTH; repeatable (default: 180x320, or the clip's)."),
    ] = None,
    clip: Annotated[
        Path | None, typer.Option("--clip", help="Video whose frames are upscaled (default: a moving scene).")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="Time to measure the steps of each way for (default: 8).", min=0.5),
    ] = None,
    precision: Annotated[
        Literal["auto", "int8"] | None,
        typer.Option("--precision", help="int8: with convolutions in 8 bits too (default: auto)."),
    ] = None,
    film: Annotated[
        float | None, typer.Option("--film", help="Minutes of a film to tell the time for (default: 90).", min=0.1)
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            help="An older --json result; exit with 1 where a step is slower beyond noise or gone.",
        ),
    ] = None,
    estimate: Annotated[
        str | None,
        typer.Option("--estimate", help="Tell the least time on a card that is not here, as rtx3080; measure nothing."),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the table as CSV too.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a picture too (needs the extra 'plots').")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure every way that this machine has to run a network: a step, the pipeline, and from file to file."""
    from ksnet_deploy.base.errors import ConfigError
    from ksnet_deploy.base.files import check_apart, check_new_file
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.base.machine import cores, cpu_name
    from ksnet_deploy.measure.plotting import check_plotting
    from ksnet_deploy.measure.speed.bench import Bench
    from ksnet_deploy.measure.speed.card import find_card
    from ksnet_deploy.measure.speed.regression import check_common, check_comparable, read_result
    from ksnet_deploy.measure.speed.subjects import find_subjects
    from ksnet_deploy.measure.speed.surroundings import find_surroundings

    card = find_card()
    sizes = [FrameSize.parse(text) for text in size] if size else None
    if estimate is not None:
        _check_effect(
            {
                "--clip": clip,
                "--seconds": seconds,
                "--precision": precision,
                "--film": film,
                "--compare": compare,
                "--csv": csv,
                "--plot": plot,
                "--overwrite": overwrite or None,
                "--json": as_json or None,
            }
        )
        print(_estimates(model or [_usual_model(None, "cuda" if card else None)], sizes, estimate))
        return
    if overwrite and csv is None and plot is None:
        raise ConfigError("--overwrite has nothing to replace; leave it out, or name a file with --csv or --plot")
    older = None if compare is None else read_result(compare)
    if older is not None:
        sets = find_surroundings().instruction_sets
        check_comparable(older, cpu_name(), cores(), None if card is None else card.name, sets)
    files = {f"--model {each}": Path(each) for each in model or ()}
    check_apart({"--csv": csv, "--plot": plot}, {"--compare": compare, "--clip": clip, **files})
    if plot is not None:
        check_plotting(plot, overwrite=overwrite)
    if csv is not None:
        check_new_file(csv, csv.suffix, overwrite=overwrite)
    models = model or [_usual_model(clip, "cuda" if card else None)]
    subjects = find_subjects(models, sizes, clip, int8=precision == "int8")
    show_notes(sorted({note for subject in subjects for note in subject.notes}))
    command = shlex.join(["ksnet-deploy", *sys.argv[1:]])
    work = Bench(
        subjects,
        clip=clip,
        seconds=8.0 if seconds is None else seconds,
        film_minutes=90.0 if film is None else film,
        command=command,
    )
    if older is not None:
        check_common(older, work.planned)
    print(work.announcement, memory_sentence(work.memory_bytes), file=sys.stderr)
    is_worse = False
    try:
        with progress("Measuring", show=not as_json) as bar:
            work.run(on_phase=lambda what: bar.begin(what, None))
    finally:  # what was measured is told, whatever came then
        if work.has_rows:
            is_worse = _hand_over(work.report(), subjects, older, csv, plot, as_json=as_json)
    if is_worse:
        raise typer.Exit(EXIT_SLOWER)


def _usual_model(clip: Path | None, device: str | None) -> str:
    """The network that ``upscale`` takes for a clip, which is told; or for any."""
    from ksnet_deploy.upscale.choice import choose_network
    from ksnet_deploy.upscale.networks import default_model
    from ksnet_deploy.video.kinds import Source

    if clip is None:
        return default_model(device)
    choice = choose_network(Source(clip), device)
    show_notes([choice.sentence()])
    return choice.name


def _hand_over(
    report: BenchReport,
    subjects: list[Subject],
    older: dict[str, Any] | None,
    csv: Path | None,
    plot: Path | None,
    *,
    as_json: bool,
) -> bool:
    """Print a report and write its files, all of them even where one of them fails. Returns whether something is
    slower than in an older result, or gone."""
    from ksnet_deploy.base.files import replacing, writing
    from ksnet_deploy.measure.speed.regression import Change, Gone, changes, gone, sealed
    from ksnet_deploy.measure.speed.surroundings import differences
    from ksnet_deploy.measure.speeds import keep_speeds

    answer = report.as_dict()
    compared: list[Change | Gone] = [] if older is None else [*changes(older, answer), *gone(older, answer)]
    notes = [] if older is None else differences(older, answer)

    def tell() -> None:
        if as_json:
            more = {} if older is None else {"changes": [c.as_dict() for c in compared], "compare_notes": notes}
            print(json.dumps(sealed(answer | more)), flush=True)
        else:
            lines = (*(change.as_text() for change in compared), *(f"Note: {note}." for note in notes))
            print("\n".join([report.as_text(), *lines]), flush=True)

    def write_csv(path: Path) -> None:
        with writing(path, "choose another place"), replacing(path) as temporary:
            temporary.write_text(report.as_csv())

    def draw(path: Path) -> None:
        from ksnet_deploy.measure.speed.plot import plot_bench

        plot_bench(report, path)

    with ExitStack() as last_first:
        last_first.callback(keep_speeds, subjects, report)
        if plot is not None:
            last_first.callback(draw, plot)
        if csv is not None:
            last_first.callback(write_csv, csv)
        last_first.callback(tell)
    return any(change.verdict in ("slower", "gone") for change in compared)


def _check_effect(given: Mapping[str, object]) -> None:
    """Raise ConfigError for options, by name, that an estimate makes nothing of; None where one was not given."""
    from ksnet_deploy.base.errors import ConfigError

    if useless := [name for name, value in given.items() if value is not None]:
        raise ConfigError(f"--estimate measures nothing; leave {' and '.join(useless)} out, which would have no effect")


def info(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A checkpoint (.safetensors, .pth), an exported .onnx or .engine, or a bundled name."
        ),
    ] = "uni",
    size: Size = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, for example --set keep_ratio=0.5.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a network's configuration, parameters and multiply-adds, in training form and folded."""
    from ksnet_deploy.base.errors import ConfigError
    from ksnet_deploy.base.frames import FrameSize
    from ksnet_deploy.network.checkpoints import load_checkpoint
    from ksnet_deploy.network.complexity import complexity
    from ksnet_deploy.runtime.exported import describe
    from ksnet_deploy.runtime.pair import named_pair

    own, facts = None, {}
    if model.lower().endswith((".onnx", ".engine")):
        if set_:
            raise ConfigError(f"{model} is an exported file, whose settings are fixed; give a checkpoint for --set")
        exported = describe(named_pair(Path(model)))
        config, own, facts = exported.config, exported.size, exported.facts
    else:
        checkpoint = load_checkpoint(checkpoint_path(model))
        show_notes(checkpoint.notes)
        config = checkpoint.config.replace(set_ or [])
    frame_size = FrameSize.parse(size) if size else own or FrameSize(180, 320)
    count = complexity(config, frame_size)
    second_flow = None
    if config.direction == "bi":
        second_flow = count.gmacs_deploy - complexity(config.replace(["direction=uni"]), frame_size).gmacs_deploy
    if as_json:
        answer = {"config": json.loads(config.to_json()), "size": str(frame_size), **vars(count)}
        answer |= {} if second_flow is None else {"second_flow_gmacs": second_flow}
        print(json.dumps(answer | ({"exported": facts} if facts else {})))
        return
    for name, fact in facts.items():
        print(f"{name + ':':24}{fact}")
    print(f"Configuration: {config.to_json()}")
    print(f"{'':16}{'training form':>16}{'deploy form':>16}")
    print(f"{'parameters':16}{count.params_training / 1e6:>14.3f} M{count.params_deploy / 1e6:>14.3f} M")
    print(f"{'multiply-adds':16}{count.gmacs_training:>14.1f} G{count.gmacs_deploy:>14.1f} G   at {frame_size}")
    if second_flow is not None:
        print(f"{second_flow:.1f} G of these are the flow to the next frame, which the network in one direction lacks.")
    print("KSNet-uni in the paper's Table 2: 3.4 M and 3.0 M parameters, 320.9 G and 296.9 G at 180x320.")


def _estimates(models: list[str], sizes: list[FrameSize] | None, card: str) -> str:
    """Floors of networks at sizes on a card, of checkpoints in half precision and of files as they are."""
    from ksnet_deploy.base.errors import ConfigError
    from ksnet_deploy.export.cache import cached_onnx
    from ksnet_deploy.measure.limits.cards import find_card_figures
    from ksnet_deploy.measure.limits.floor import estimate_text, layers_of_file
    from ksnet_deploy.measure.speed.subjects import networks_at_sizes, precision_of_file
    from ksnet_deploy.measure.speed.ways import KINDS

    figures, told = find_card_figures(card), []
    for network, size in networks_at_sizes(models, sizes):
        if network.kind == "engine":
            raise ConfigError(f"the work of {network.label} cannot be read; give the checkpoint or the .onnx it is of")
        precision = "fp16" if network.kind == "checkpoint" else precision_of_file(network.path)
        if precision.startswith("int8"):
            raise ConfigError(
                f"{network.label} is in {KINDS[precision]}, and the cards' figures are those of half; give the "
                "checkpoint"
            )
        path = network.path if network.kind != "checkpoint" else cached_onnx(network.path, size, "uint8", "fp16")
        text = estimate_text(network.label, size, layers_of_file(path), figures, precision=KINDS[precision])
        told.append(text)
    return "\n\n".join(told)


def models(as_json: Json = False) -> None:
    """List the bundled networks: what for, size, quality, licence, speed here where measured, and what is cached."""
    from ksnet_deploy.measure.models import list_models

    found = list_models()
    print(json.dumps(found.as_dict()) if as_json else found.as_text())
