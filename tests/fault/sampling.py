"""The work that the kill test of sample kills; a module of its own, so that forked processes find it by name."""

from pathlib import Path

from vsat.config import Region
from vsat.core.splits import SplitDesign
from vsat.stages.sample import SampleOptions, plan_sample, plan_survey, record
from vsat.stages.shards import sample_one
from vsat.stages.survey import survey_one

OPTIONS = SampleOptions(
    patches=6, size_px=8, stride_px=4, days=40, step_days=10, min_looks=2, shard_patches=3, strata=("greenness",),
    split=SplitDesign(block_px=12, buffer_px=0, validation_share=0.2, test_share=0.2),
)  # fmt: skip


def draw(region: Region, out: Path) -> None:
    """What `sample` does, one job at a time; without the report's pictures, which load much and are written last."""
    surveys = plan_survey([region], out, OPTIONS)
    for job in surveys:
        survey_one(job)
    plan = plan_sample(surveys, out, OPTIONS)
    receipts = [sample_one(job) for job in (*plan.mending, *plan.jobs)]
    record(out, OPTIONS, plan, receipts)
