"""The verbs on cubes, patches and models: fill, sample, train, evaluate. `cli` puts them beside those on regions."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from vsat.errors import InputError
from vsat.terminal import Json, Workers, day_of, listed, progress, region_of, tell

Rule = Annotated[
    Literal["equal", "proportional", "neyman"],
    typer.Option(help="how many patches a stratum gets: the same, by its size, or by size times variability"),
]
Times = Annotated[str, typer.Option(help="years or seasons kept for this split alone: 2022,2023-JJA")]


def fill(
    cube: Annotated[Path, typer.Argument(help="NetCDF file or Zarr folder with reflectance and fmask", metavar="CUBE")],
    *,
    out: Annotated[Path, typer.Option(help="file to write: .nc or .zarr")],
    dates: Annotated[str | None, typer.Option(help="these days: 2018-05-01,2018-06-15")] = None,
    every: Annotated[int | None, typer.Option(help="every so many days from the first look to the last")] = None,
    acquisitions: Annotated[bool, typer.Option("--acquisitions", help="every day with a look")] = False,
    method: Annotated[
        str | None,
        typer.Option(help="nearest, linear, whittaker, harmonic or blend, also with +scene; anydate or anydate:FOLDER"),
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="joint samples of each date, to propagate uncertainty")] = 0,
    as_json: Json = False,
) -> None:
    """Fill a cube of your own for any dates, with no region and no server."""
    from vsat.methods import DEFAULT_METHOD
    from vsat.stages.fill import fill_file

    chosen = method or DEFAULT_METHOD
    days = [day_of(text) for text in listed(dates)]
    filled = fill_file(cube, out, dates=days, every=every, acquisitions=acquisitions, method=chosen, samples=samples)
    told = {"out": str(out), "dates": filled.sizes["time"], "method": chosen}
    tell(told, as_json, f"{out}: {told['dates']} dates, {chosen}")


def sample(
    context: typer.Context,
    regions: Annotated[list[str], typer.Argument(help="region files, or names in regions/", metavar="REGION...")],
    *,
    out: Annotated[Path, typer.Option(help="the folder of the patch store; one that is there is added to")],
    patches: Annotated[int, typer.Option(min=1, help="how many to draw")] = 2000,
    size: Annotated[int, typer.Option(min=8, help="pixels a side")] = 64,
    looks: Annotated[int, typer.Option(min=2, help="acquisitions in a patch, at most")] = 64,
    days: Annotated[int, typer.Option(min=16, help="length of a patch in time")] = 180,
    every: Annotated[int, typer.Option(min=1, help="a stretch of time begins every so many days")] = 30,
    stride: Annotated[int, typer.Option(min=1, help="pixels between places where a patch may lie")] = 8,
    rule: Rule = "equal",
    floor: Annotated[int, typer.Option(min=0, help="patches that every stratum gets, if it has them")] = 1,
    strata: Annotated[str | None, typer.Option(help="what makes the strata: season,clear,...; by default all")] = None,
    static: Annotated[
        list[str] | None, typer.Option(help="a raster that makes strata too: elevation=dem.tif", metavar="NAME=FILE")
    ] = None,
    block: Annotated[int, typer.Option(min=1, help="pixels a side of the blocks that the splits are made of")] = 128,
    buffer: Annotated[int, typer.Option(min=0, help="pixels between patches of two splits, at least")] = 32,
    validation: Annotated[float, typer.Option(min=0, max=1, help="share of the blocks for validation")] = 0.15,
    test: Annotated[float, typer.Option(min=0, max=1, help="share of the blocks for the test")] = 0.15,
    validation_times: Times = "",
    test_times: Times = "",
    seed: Annotated[int, typer.Option(min=0, help="the same seed and cubes give the same bytes")] = 0,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Draw stratified training patches from the cubes of regions; drawn again, it adds what has grown."""
    from vsat.core.splits import SplitDesign
    from vsat.core.strata import FEATURES
    from vsat.stages.sample import SampleOptions
    from vsat.stages.sample import sample as run
    from vsat.stages.sample_report import as_json as in_json

    design = SplitDesign(
        block_px=block, buffer_px=buffer, validation_share=validation, test_share=test, seed=seed,
        validation_times=tuple(listed(validation_times)), test_times=tuple(listed(test_times)),
    )  # fmt: skip
    options = SampleOptions(
        patches=patches, size_px=size, most_looks=looks, days=days, step_days=every, stride_px=stride, rule=rule,
        floor=floor, strata=tuple(listed(strata)) or FEATURES, static=_rasters(static or []), seed=seed, split=design,
    )  # fmt: skip
    with progress(quiet=bool(context.obj)) as of:
        report = run([region_of(text) for text in regions], out, options, workers=workers, progress=of("pieces"))
    typer.echo(in_json(report) if as_json else report.text())


def train(
    context: typer.Context,
    *,
    out: Annotated[Path, typer.Option(help="the checkpoint's folder; a run that was stopped there goes on")],
    prior: Annotated[bool, typer.Option("--prior", help="learn from endless synthetic records (the default)")] = False,
    patches: Annotated[
        list[Path] | None, typer.Option(help="learn from this patch store; may be given again", metavar="STORE")
    ] = None,
    both: Annotated[bool, typer.Option("--both", help="synthetic records and the stores, in turn")] = False,
    size: Annotated[str, typer.Option(help="tiny, small, base or large")] = "tiny",
    init: Annotated[str | None, typer.Option(help="begin with this checkpoint: a folder, a hub id, or anydate")] = None,
    keep: Annotated[float, typer.Option(help="share of its weights in the mean that is written")] = 0.0,
    optimizer: Annotated[str, typer.Option(help="sophia, adamw or muon")] = "sophia",
    lr: Annotated[
        float | None, typer.Option(help="peak learning rate; by default the optimiser's own, a sixth of it with --init")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="of the optimiser; by default 4000, 250 with --init")] = None,
    batch: Annotated[int, typer.Option(min=1, help="patches in a batch, of each process")] = 32,
    accumulate: Annotated[int, typer.Option(min=1, help="batches in a step")] = 1,
    bf16: Annotated[bool, typer.Option(help="matrix products in bfloat16")] = True,
    every: Annotated[
        int | None,
        typer.Option(
            min=1, help="steps between two looks at the held-out set, and saves; by default 200, 25 with --init"
        ),
    ] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="such looks without a gain, then stop")] = None,
    minutes: Annotated[float | None, typer.Option(help="save and stop after so many")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of weights, order and gaps")] = 0,
    held_out: Annotated[int, typer.Option(min=1, help="patches that decide when to stop")] = 384,
    backbone: Annotated[str, typer.Option(help="llama or gpt2")] = "llama",
    gpt2: Annotated[str | None, typer.Option(help="begin with this GPT-2's layers: a folder or hub id")] = None,
    numbers: Annotated[str, typer.Option(help="reflectance as asinh bins, digits or plain")] = "asinh",
    evidence: Annotated[bool, typer.Option(help="show it the classical estimates")] = True,
    scene: Annotated[bool, typer.Option(help="show it the date's other pixels")] = True,
    as_json: Json = False,
) -> None:
    """Train the any-date model, on a GPU where there is one; under torchrun on several. Stopped, it goes on."""
    from vsat.model.cores import leave_cores
    from vsat.model.options import TrainOptions
    from vsat.stages.train import TrainPlan, default_pace
    from vsat.stages.train import train as run

    own_lr, own_steps, own_every = default_pace(optimizer, begun=init is not None)
    often = every or own_every
    options = TrainOptions(
        optimizer=cast(Any, optimizer), lr=own_lr if lr is None else lr, steps=steps or own_steps, batch=batch,
        accumulate=accumulate, bf16=bf16, save_every=often, evaluate_every=often, patience=patience, minutes=minutes,
        seed=seed, warmup=0.04, floor=0.02,
    )  # fmt: skip
    leave_cores(options.threads)
    stores = tuple(patches or ())
    plan = TrainPlan(
        prior=prior or both or not stores,
        patches=stores,
        size=size,
        init=init,
        keep=keep,
        backbone=backbone,
        gpt2=gpt2,
        numbers=numbers,
        evidence=evidence,
        scene=scene,
        held_out=held_out,
        options=options,
    )
    with progress(quiet=bool(context.obj)) as of:
        report = run(plan, out, progress=of("steps"))
    if os.environ.get("RANK", "0") == "0":  # under torchrun one speaks for all
        tell(asdict(report), as_json, report.text())


def evaluate(
    context: typer.Context,
    sources: Annotated[
        list[str], typer.Argument(help="cubes (.nc, .zarr), patch stores, region files or names", metavar="SOURCE...")
    ],
    *,
    methods: Annotated[
        str | None, typer.Option(help="to judge: anydate by default, blend+scene,...; baselines always run too")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="of dates,masks,gaps,forecast,thinning; by default all five")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="how often targets are drawn")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="of the draws")] = 0,
    json: Annotated[Path | None, typer.Option(help="write all scores to this file")] = None,
    html: Annotated[Path | None, typer.Option(help="write the page to this file; it needs no server")] = None,
) -> None:
    """Hide what was seen, fill it with every method, and say how far each is off and how well it knows."""
    from vsat.core.protocols import PROTOCOLS
    from vsat.io.durable import put_file
    from vsat.methods import DEFAULT_METHOD
    from vsat.settings import Settings
    from vsat.stages.evaluate import evaluate as run
    from vsat.stages.judge_page import page

    with progress(quiet=bool(context.obj)) as of:
        verdict, pictures = run(
            sources,
            methods=tuple(listed(methods)) or (DEFAULT_METHOD,),
            protocols=tuple(listed(protocol)) or PROTOCOLS,
            folds=folds,
            seed=seed,
            regions_folder=Settings.from_environment().regions,
            progress=of("folds"),
        )
    for path, content in ((json, verdict.to_json), (html, lambda: page(verdict, pictures))):
        if path is not None:
            put_file(path, content().encode())
    written = "".join(f"\n{name}: {path}" for name, path in (("scores", json), ("page", html)) if path)
    typer.echo(verdict.text() + written)


def _rasters(texts: list[str]) -> tuple[tuple[str, Path], ...]:
    pairs = [text.partition("=") for text in texts]
    wrong = [text for text, (name, _, path) in zip(texts, pairs, strict=True) if not (name and path)]
    if wrong:
        raise InputError(f"{wrong[0]!r} names no raster", place="--static", next_step="write elevation=dem.tif")
    return tuple((name, Path(path)) for name, _, path in pairs)
