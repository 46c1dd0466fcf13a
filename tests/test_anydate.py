"""The any-date model: what its answers may depend on, and what they must not."""

from pathlib import Path

import pytest
import torch
from shaken import batch, changed, shaken, untrained
from torch import Tensor
from transformers import GPT2Config, GPT2Model

from vsat.errors import InputError
from vsat.model.anydate import SIZES, TOGETHER, AnyDate, AnyDateConfig
from vsat.model.examples import collate
from vsat.model.folders import take_gpt2
from vsat.model.loss import edges, quantiles
from vsat.model.tokens import BANDS, MEMBERS, OF_LOOKS, OF_QUERIES

MILLIONS = {"tiny": 1, "small": 10, "base": 44, "large": 130}
both = pytest.mark.parametrize("backbone", ["llama", "gpt2"])


@torch.no_grad()
def said(model: AnyDate, given: dict[str, Tensor], **other: Tensor) -> Tensor:
    """Logits of all queries, asked or not."""
    whole = given | other
    return model(**{name: array for name, array in whole.items() if name not in ("truth", "target", "weight")}).logits


def close(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    return bool((one - other).abs().max() < tolerance)


@both
def test_one_query_leaves_the_others_bit_identical(backbone: str) -> None:
    model, given = shaken(backbone=backbone), batch()
    before = said(model, given)
    for q in (0, 3, 5):
        here = torch.arange(6) == q
        names = ("base", "query", "query_shared", "day_q")
        other = {
            name: changed(given[name], here.view(1, -1, *[1] * (given[name].ndim - 2)).expand_as(given[name]))
            for name in names
        }
        after = said(model, given, **other)
        assert torch.equal(before[:, ~here], after[:, ~here])
        assert not close(before[:, here], after[:, here], 1e-2)


@both
def test_attention_written_out_is_torch_s_own(backbone: str) -> None:
    model, given = shaken(backbone=backbone), batch()
    assert model.backbone.config._attn_implementation == "eager"
    before = said(model, given)
    masks: list[Tensor] = []

    def as_bools(_: object, args: tuple[()], options: dict[str, Tensor]) -> tuple[tuple[()], dict[str, Tensor]]:
        masks.append(options["attention_mask"] == 0)
        return args, options | {"attention_mask": masks[-1]}

    model.backbone.register_forward_pre_hook(as_bools, with_kwargs=True)
    model.backbone.set_attn_implementation("sdpa")
    assert close(before, said(model, given), 1e-5)
    (mask,) = masks
    looks = given["clear"].any(-1).sum(1)
    for seen, count in zip(mask[:, 0], looks.tolist(), strict=True):
        assert seen[:, :count].all()
        assert torch.equal(seen[:, count:], torch.eye(len(seen), dtype=torch.bool)[:, count:])


@both
def test_queries_are_as_independent_in_half_precision(backbone: str) -> None:
    model, given = shaken(backbone=backbone), batch()
    with torch.autocast("cpu", torch.bfloat16):
        before = said(model, given)
        here = (torch.arange(6) == 2).view(1, -1, 1, 1)
        after = said(model, given, query=changed(given["query"], here.expand_as(given["query"])))
    others = torch.arange(6) != 2
    assert torch.isfinite(before).all() and torch.equal(before[:, others], after[:, others])
    assert not close(before[:, 2], after[:, 2], 1e-2)


@both
def test_what_is_not_asked_costs_nothing_and_says_nothing(backbone: str) -> None:
    model, given = shaken(backbone=backbone), batch()
    whole, asked = said(model, given), given["target"].any(-1)
    with torch.no_grad():
        some = model(**given).logits
    assert close(whole[asked], some[asked], 1e-5)
    assert (some[~asked] == 0).all() and (whole[~asked] != 0).any()


@both
def test_context_is_bidirectional(backbone: str) -> None:
    model, given = shaken(backbone=backbone), batch()
    hidden: list[Tensor] = []
    model.backbone.register_forward_hook(lambda *at: hidden.append(at[-1].last_hidden_state))
    looks = int(given["clear"].any(-1).sum(1).min())
    assert looks > 2
    said(model, given)
    for t in (0, looks - 1):
        here = (torch.arange(given["look"].shape[1]) == t).view(1, -1, 1, 1).expand_as(given["look"])
        said(model, given, look=changed(given["look"], here))
    first, last = ((hidden[n][:, :looks] - hidden[0][:, :looks]).abs().amax(-1) for n in (1, 2))
    assert (first > 1e-4).all() and (last > 1e-4).all()


def test_shifting_all_dates_changes_nothing_with_rotary_phases() -> None:
    model, given = shaken(), batch()
    before = said(model, given)
    for days in (365.0, -1000.0, 3000.0):
        after = said(model, given, day_t=given["day_t"] + days, day_q=given["day_q"] + days)
        assert close(before, after), (before - after).abs().max()
    assert not close(before, said(model, given, day_t=given["day_t"] + 30), 1e-3)
    assert not close(before, said(model, given, day_t=-given["day_t"], day_q=-given["day_q"]), 1e-3)


def test_gpt2_knows_dates_by_their_place() -> None:
    model, given = shaken(backbone="gpt2"), batch()
    before = said(model, given)
    assert not close(before, said(model, given, day_t=given["day_t"] + 30), 1e-3)
    assert not close(before, said(model, given, day_q=given["day_q"] + 30), 1e-3)


@both
def test_the_order_of_looks_does_not_matter(backbone: str) -> None:
    model, given = shaken(backbone=backbone), batch()
    order = torch.randperm(given["clear"].shape[1], generator=torch.Generator().manual_seed(0))
    turned = {name: given[name][:, order] for name in OF_LOOKS}
    assert close(said(model, given), said(model, given, **turned))


@both
@pytest.mark.parametrize("patch_px", [1, 2])
def test_what_is_not_clear_has_no_influence(backbone: str, patch_px: int) -> None:
    model, given = shaken(backbone=backbone, patch_px=patch_px), batch(patch_px=patch_px, sequences=6)
    unseen = ~given["clear"].any(-1)
    assert unseen.any() and (given["clear"].any(-1) & ~given["clear"].all(-1)).any() == (patch_px > 1)
    before = said(model, given)
    other = {"value": changed(given["value"], ~given["clear"][..., None].expand_as(given["value"]))}
    for name in ("look", "look_shared", "day_t"):
        array = given[name]
        other[name] = changed(array, unseen.view(*unseen.shape, *[1] * (array.ndim - 2)).expand_as(array))
    assert torch.equal(before, said(model, given, **other))
    clear = given["clear"][..., None].expand_as(given["value"])
    assert not close(before, said(model, given, value=changed(given["value"], clear)), 1e-2)


@both
def test_a_batch_of_unequal_examples_says_what_each_says_alone(backbone: str) -> None:
    model = shaken(backbone=backbone)
    parts = [batch(n, looks=looks, sequences=count) for n, (looks, count) in enumerate([(9, 3), (21, 4), (14, 2)])]
    parts[0] = {name: array[:, :4] if name in OF_QUERIES else array for name, array in parts[0].items()}
    whole = collate([one | {"index": torch.tensor(n)} for n, one in enumerate(parts)])
    assert whole["index"].tolist() == [0, 1, 2]
    with torch.no_grad():
        together, alone = model(**whole), [model(**one) for one in parts]
    lengths = torch.cat([one["clear"].any(-1).sum(1) + one["target"].any(-1).sum(1) for one in parts])
    rows = [row for one, out in zip(parts, alone, strict=True) for row in zip(one["target"], out.logits, strict=True)]
    for row, n in enumerate(lengths.argsort(stable=True).tolist()):
        target, logits = rows[n]
        assert torch.equal(whole["target"][row, : len(target)], target)
        assert not whole["target"][row, len(target) :].any() and not together.logits[row, len(target) :].any()
        assert close(together.logits[row, : len(target)], logits, 1e-5)
    count = sum(int(out.count) for out in alone)
    assert int(together.count) == count
    torch.testing.assert_close(together.loss, sum(out.loss * out.count for out in alone) / count, atol=1e-5, rtol=0)


def test_more_sequences_than_go_through_at_once_say_what_they_say_apart() -> None:
    model, given = shaken(), batch(sequences=30)
    many = {name: torch.cat([array] * 3) for name, array in given.items()}
    assert len(many["clear"]) > TOGETHER
    whole, once = said(model, many), said(model, given)
    assert all(close(part, once, 1e-5) for part in whole.split(30))


@both
def test_an_untrained_model_says_the_classical_base(backbone: str) -> None:
    given = batch()
    logits = said(untrained(backbone=backbone), given)
    median = quantiles(logits, (0.5,))[..., 0] * given["scale"] + given["base"]
    torch.testing.assert_close(median, given["base"], atol=1e-6, rtol=0)
    assert close(logits, logits[:1, :1, :1, :1].expand_as(logits), 1e-9)


@both
@pytest.mark.parametrize("numbers", ["asinh", "digits", "plain"])
def test_a_saved_model_comes_back_the_same(backbone: str, numbers: str, tmp_path: Path) -> None:
    options = {"backbone": backbone, "numbers": numbers, "patch_px": 2, "scene": False}
    model, given = shaken(**options), batch(patch_px=2, sequences=4)
    model.save_pretrained(tmp_path)
    edges.cache_clear()
    back = AnyDate.from_pretrained(tmp_path).train(mode=False)
    for name in (*options, "width", "layers", "heads"):
        assert getattr(back.config, name) == getattr(model.config, name)
    assert torch.equal(said(model, given), said(back, given))
    assert close(
        said(untrained(**options), given), said(untrained(**options), given), 1e-9
    )  # a new one can be made still


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_what_they_are_called(size: str) -> None:
    edges.cache_clear()
    with torch.device("meta"):
        model = AnyDate(AnyDateConfig.of_size(size))
    edges.cache_clear()
    count = sum(weight.numel() for weight in model.parameters())
    assert abs(count / 1e6 / MILLIONS[size] - 1) < 0.2, count


@both
@pytest.mark.parametrize("numbers", ["asinh", "digits", "plain"])
def test_every_kind_of_number_reaches_the_answer(backbone: str, numbers: str) -> None:
    model, given = shaken(backbone=backbone, numbers=numbers), batch(sequences=3)
    before = said(model, given)
    assert torch.isfinite(before).all()
    assert not close(before, said(model, given, value=given["value"] * 1.3), 1e-3)
    assert not close(before, said(model, given, base=given["base"] * 1.3), 1e-3)


def _only(array: Tensor, *columns: slice) -> Tensor:
    """True in these features."""
    where = torch.zeros(array.shape[-1], dtype=torch.bool)
    for part in columns:
        where[part] = True
    return where.expand_as(array)


# Of a query: base, members, blend, error, near, wide, scale; then misses, two shares of the day, four gaps, two flags.
KRIGED = 2 + MEMBERS
LATER = BANDS * (KRIGED + 4)
OF_DAY = (
    slice(BANDS * KRIGED, BANDS * (KRIGED + 3)),
    slice(LATER + MEMBERS, LATER + MEMBERS + 2),
    slice(LATER + MEMBERS + 6, LATER + MEMBERS + 7),
)
AROUND = (slice(2 * BANDS, 4 * BANDS), slice(4 * BANDS + 1, 4 * BANDS + 3))  # of a look


def test_without_evidence_no_classical_estimate_but_the_base_is_seen() -> None:
    given = batch(sequences=3)
    where = _only(given["query"], slice(BANDS, None))
    other = {"query": changed(given["query"], where)}
    for evidence in (True, False):
        model = shaken(evidence=evidence)
        before = said(model, given)
        assert torch.equal(before, said(model, given, **other)) == (not evidence)
        assert not torch.equal(before, said(model, given, query=changed(given["query"], ~where)))


def test_without_scene_nothing_of_the_day_s_other_pixels_is_seen_but_through_the_base() -> None:
    given = batch(sequences=3)
    of_day, around = _only(given["query"], *OF_DAY), _only(given["look"], *AROUND)
    for scene in (True, False):
        model = shaken(scene=scene)
        before = said(model, given)
        for name, where in (("query", of_day), ("look", around)):
            assert torch.equal(before, said(model, given, **{name: changed(given[name], where)})) == (not scene)
            assert not torch.equal(before, said(model, given, **{name: changed(given[name], ~where)}))


def test_a_loss_counts_what_is_asked_of_bands_there_are() -> None:
    model, given = shaken(), batch()
    with torch.no_grad():
        one = model(**given)
        given["has"] = given["has"] & (torch.arange(BANDS) != 2)
        two = model(**given)
        scored = given["target"][..., None] & given["has"][:, None, None, :]
        same = model(**given | {"truth": given["truth"].where(scored[..., None], torch.tensor(float("nan")))})
    assert int(one.count) == 6 * int(given["target"].sum()) and int(two.count) == 5 * int(given["target"].sum())
    assert torch.isfinite(one.loss) and torch.equal(two.loss, same.loss)


@torch.no_grad()
def test_a_loss_is_the_mean_over_skies() -> None:
    model, given = shaken(), batch()
    skies = [given["truth"], changed(given["truth"]), given["truth"] - 0.03]
    apart = [model(**given | {"truth": truth}) for truth in skies]
    together = model(**given | {"truth": torch.cat(skies, -1)})
    assert int(together.count) == int(apart[0].count)
    torch.testing.assert_close(together.loss, torch.stack([one.loss for one in apart]).mean())
    assert len({float(one.loss) for one in apart}) == 3


def test_sophia_s_loss_is_against_the_model_s_own_labels() -> None:
    model, given = shaken(), batch()
    losses = [
        float(model.sampled_loss(generator=torch.Generator().manual_seed(seed), **given).detach()) for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
    assert abs(losses[0] - float(model(**given).loss.detach())) > 0.1
    elsewhere = given | {"truth": changed(given["truth"]), "weight": given["weight"] * 3}
    assert losses[0] == float(model.sampled_loss(generator=torch.Generator().manual_seed(0), **elsewhere).detach())
    # Its expectation is the distribution's own entropy.
    with torch.no_grad():
        logits = model(**given).logits[given["target"]]
        entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    assert abs(losses[0] - float(entropy)) < 0.15
    model.sampled_loss(generator=torch.Generator().manual_seed(0), **given).backward()
    assert all(
        weight.grad is not None and torch.isfinite(weight.grad).all()
        for name, weight in model.named_parameters()
        if "embed_tokens" not in name
    )


def gpt2(folder: Path, **options: int) -> GPT2Model:
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 40} | options
    torch.manual_seed(5)
    model = GPT2Model(GPT2Config(**shape, bos_token_id=0, eos_token_id=0))
    model.save_pretrained(folder)
    return model


def test_gpt2_s_layers_are_taken_over(tmp_path: Path) -> None:
    theirs = {k: w for k, w in gpt2(tmp_path).state_dict().items() if k.split(".")[0] not in ("wte", "wpe")}
    model, given = shaken(backbone="gpt2"), batch(sequences=3)
    before, old = said(model, given), {k: w.clone() for k, w in model.state_dict().items()}
    take_gpt2(model, str(tmp_path))
    mine = {k.removeprefix("backbone."): w for k, w in model.state_dict().items() if k.startswith("backbone.")}
    assert set(mine) - set(theirs) == {"wte.weight", "wpe.weight"} and set(theirs) < set(mine)
    assert all(torch.equal(mine[name], weight) for name, weight in theirs.items())
    assert all(torch.equal(model.state_dict()[k], w) for k, w in old.items() if not k.startswith("backbone."))
    assert not close(before, said(model, given), 1e-2)


def test_only_a_gpt2_of_the_same_shape_is_taken(tmp_path: Path) -> None:
    gpt2(tmp_path / "deep", n_layer=3)
    gpt2(tmp_path / "fits")
    with pytest.raises(InputError, match="n_layer is 3, and 2"):
        take_gpt2(shaken(backbone="gpt2"), str(tmp_path / "deep"))
    with pytest.raises(InputError, match="no GPT-2"):
        take_gpt2(shaken(backbone="gpt2"), str(tmp_path / "absent"))
    with pytest.raises(InputError, match="LlamaModel"):
        take_gpt2(shaken(), str(tmp_path / "fits"))
