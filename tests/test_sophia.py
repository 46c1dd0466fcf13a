"""Sophia-G against what is known without it: enumerated labels, closed forms, and the formulas in plain Python."""

import copy
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softmax

from vsat.errors import InputError
from vsat.model.sophia import SophiaG


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parameter(values: object, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def estimate(optimizer: SophiaG, p: nn.Parameter, grad: object, bs: int = 1) -> None:
    p.grad = torch.tensor(grad, dtype=p.dtype)
    optimizer.update_hessian(bs)


def step(optimizer: SophiaG, p: nn.Parameter, grad: object) -> None:
    p.grad = torch.tensor(grad, dtype=p.dtype)
    optimizer.step()
    p.grad = None


def h_once(p: nn.Parameter, loss: torch.Tensor, bs: int) -> torch.Tensor:
    """The estimate that one set of labels gives, with no average over time."""
    optimizer = SophiaG([p], lr=0.0, betas=(0.965, 0.0))
    p.grad = None
    loss.backward()
    optimizer.update_hessian(bs)
    return optimizer.state[p]["h"]


# The estimate


@pytest.mark.parametrize("tokens", [2, 5])
def test_expected_h_is_the_fisher_diagonal_of_a_softmax_model(tokens: int) -> None:
    """All label combinations, weighted by their probability: the expectation itself, at two numbers of tokens."""
    torch.manual_seed(tokens)
    x, weight = torch.randn(tokens, 3), nn.Parameter(torch.randn(3, 3))
    p = softmax(x @ weight, -1).detach()
    expected = torch.zeros(3, 3)
    for labels in itertools.product(range(3), repeat=tokens):
        chance = p[range(tokens), labels].prod()
        expected += chance * h_once(weight, cross_entropy(x @ weight, torch.tensor(labels)), tokens)
    fisher = torch.einsum("ij,ic->jc", x**2, p * (1 - p)) / tokens  # of x_j W_jc: mean of x_j^2 p_c (1 - p_c)
    torch.testing.assert_close(expected, fisher, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens", [4, 64])
def test_mean_h_is_the_fisher_information_of_a_gaussian_model(tokens: int) -> None:
    """Mean and log deviation of a normal have 1 / deviation^2 and 2, however many tokens are drawn."""
    torch.manual_seed(0)
    draws, p = 3000, parameter([0.7, -0.5])  # mean, log of the deviation
    optimizer = SophiaG([p], lr=0.0, betas=(0.965, 0.0), every=1)
    found = torch.empty(draws, 2)
    for draw in range(draws):
        y = (p[0] + p[1].exp() * torch.randn(tokens)).detach()
        (p[1] + 0.5 * ((y - p[0]) / p[1].exp()) ** 2).mean().backward()
        optimizer.update_hessian(tokens)
        found[draw] = optimizer.state[p]["h"]
        optimizer.step()
    error = found.std(0) / math.sqrt(draws)
    known = torch.tensor([math.exp(1.0), 2.0])
    assert (error < 0.05 * known).all()
    assert ((found.mean(0) - known).abs() < 4 * error).all()


def test_true_labels_give_another_h_where_the_model_is_wrong() -> None:
    torch.manual_seed(1)
    x, weight = torch.ones(64, 1), parameter([[2.0, -2.0]])  # class 0 at 98 %, and all of the truth is class 1
    fisher = 0.982 * 0.018
    drawn = torch.stack([h_once(weight, *_drawn(x, weight)) for _ in range(400)]).mean(0)
    true = h_once(weight, cross_entropy(x @ weight, torch.ones(64, dtype=torch.long)), 64)
    assert drawn.flatten().tolist() == pytest.approx([fisher] * 2, rel=0.3)
    assert (true > 100 * fisher).all()


def _drawn(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, int]:
    logits = x @ weight
    return cross_entropy(logits, torch.multinomial(softmax(logits.detach(), -1), 1).flatten()), len(x)


def test_each_estimate_enters_with_its_own_bs() -> None:
    p = parameter([1.0, 1.0])
    optimizer = SophiaG([p], lr=0.0, every=1, betas=(0.965, 0.75))
    estimate(optimizer, p, [0.5, -2.0], bs=8)
    assert optimizer.state[p]["h"].tolist() == [0.25 * 8 * 0.25, 0.25 * 8 * 4]
    optimizer.step()
    estimate(optimizer, p, [0.0, 1.0], bs=2)
    assert optimizer.state[p]["h"].tolist() == [0.75 * 0.5, 0.75 * 8 + 0.25 * 2]
    assert optimizer.state_dict()["param_groups"][0]["bs"] == 2


def test_h_changes_before_the_first_step_and_every_k_steps_from_there() -> None:
    p = parameter([1.0])
    optimizer, changed = SophiaG([p], lr=0.01, every=4), []
    for turn in range(13):
        before = optimizer.state[p]["h"].clone() if turn else torch.zeros(1)
        if optimizer.hessian_due:
            estimate(optimizer, p, [1.0])
            assert not optimizer.hessian_due
        step(optimizer, p, [1.0])
        changed += [turn] * (not torch.equal(optimizer.state[p]["h"], before))
    assert changed == [0, 4, 8, 12]


def test_the_gradient_of_drawn_labels_is_in_no_step() -> None:
    p, q = parameter([1.0]), parameter([1.0])
    optimizer = SophiaG([p, q], lr=0.1)
    q.grad = torch.ones(1)
    estimate(optimizer, p, [1.0])
    assert p.grad is None and q.grad is None
    optimizer.step()
    assert p.item() == q.item() == 1.0


# The step


def traced(grads: list[float], drawn: dict[int, tuple[float, int]], start: float, decay: float) -> list[float]:
    """p after each step, by the paper's formulas: lr .1, .2, ..., betas .9 and .5, rho .5."""
    p, m, h, out = start, 0.0, 0.0, []
    for turn, g in enumerate(grads):
        lr = 0.1 * (turn + 1)
        if turn in drawn:
            ghat, bs = drawn[turn]
            h = 0.5 * h + 0.5 * bs * ghat * ghat
        m = 0.9 * m + 0.1 * g
        p -= lr * decay * p
        p -= lr * min(1.0, max(-1.0, m / max(0.5 * h, 1e-15)))
        out.append(p)
    return out


def test_three_steps_are_those_worked_by_hand() -> None:
    grads = [[2.0, -0.5, 3.0], [-1.0, 0.25, 1.0], [4.0, -2.0, 0.0]]
    drawn = {0: ([0.5, 1.0, 0.1], 4), 2: ([-1.0, 0.2, 0.0], 6)}
    matrix, vector = parameter([[1.0, -2.0, 0.5]]), parameter([1.0, -2.0, 0.5])
    optimizer = SophiaG([matrix, vector], lr=0.1, betas=(0.9, 0.5), rho=0.5, weight_decay=0.3, every=2)
    unclipped = []
    for turn in range(3):
        optimizer.param_groups[0]["lr"] = 0.1 * (turn + 1)
        if optimizer.hessian_due:
            ghat, bs = drawn[turn]
            matrix.grad, vector.grad = torch.tensor([ghat]), torch.tensor(ghat)
            optimizer.update_hessian(bs)
        matrix.grad, vector.grad = torch.tensor([grads[turn]]), torch.tensor(grads[turn])
        optimizer.step()
        optimizer.zero_grad()
        unclipped.append(optimizer.unclipped)
        for p, decay in ((matrix, 0.3), (vector, 0.0)):
            for i, start in enumerate((1.0, -2.0, 0.5)):
                known = traced([g[i] for g in grads], {t: (d[i], b) for t, (d, b) in drawn.items()}, start, decay)
                assert p.flatten()[i].item() == pytest.approx(known[turn], rel=1e-6), (turn, i, decay)
    # h_0 = .5 * 4 * .25 = .5, m_0 = .2, so the first coordinate moves by .1 * .2 / (.5 * .5); the third is clipped
    assert traced([2.0], {0: (0.5, 4)}, 1.0, 0.0) == pytest.approx([1 - 0.1 * 0.8])
    assert unclipped == pytest.approx([2 / 3, 2 / 3, 2 / 3])


def test_a_quadratic_contracts_at_one_rate_whatever_its_curvature() -> None:
    """With h the true curvature, no averages and rho 1, the error is (1 - lr)^t of what it was, in every direction."""
    curvature = torch.tensor([1e-3, 1.0, 50.0, 1e4])
    goal, p = torch.tensor([1.0, -2.0, 3.0, 0.5]), parameter([1.5, -2.9, 3.1, 0.5])
    optimizer = SophiaG([p], lr=0.25, betas=(0.0, 0.0), rho=1.0)
    first = p.detach() - goal
    for turn in range(1, 41):
        if optimizer.hessian_due:
            p.grad = (curvature / 32).sqrt()
            optimizer.update_hessian(32)
        p.grad = curvature * (p.detach() - goal)
        optimizer.step()
        torch.testing.assert_close(p.detach() - goal, 0.75**turn * first, rtol=1e-3, atol=1e-6)
    assert optimizer.unclipped == 1.0


def test_regression_with_averages_ends_at_least_squares() -> None:
    torch.manual_seed(2)
    x = torch.randn(256, 4) * torch.tensor([0.1, 1.0, 3.0, 10.0])
    y = x @ torch.tensor([2.0, -1.0, 0.5, 0.1]) + 0.1 * torch.randn(256)
    best = torch.linalg.lstsq(x, y[:, None]).solution.flatten()
    p = nn.Parameter(torch.zeros(4))
    optimizer = SophiaG([p], lr=0.02, rho=1.0)
    for turn in range(800):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - turn / 800)
        if optimizer.hessian_due:
            drawn = (x @ p).detach() + torch.randn(256)  # the model of squared error: deviation 1
            (0.5 * (x @ p - drawn) ** 2).mean().backward()
            optimizer.update_hessian(256)
        (0.5 * (x @ p - y) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(p.detach(), best, rtol=0, atol=2e-3)


def test_only_matrices_decay_and_decay_is_not_in_the_momentum() -> None:
    matrix, vector, other = parameter([[2.0]]), parameter([2.0]), parameter([[2.0]])
    groups = [{"params": [matrix, vector]}, {"params": [other], "weight_decay": 0.0, "lr": 0.5}]
    optimizer = SophiaG(groups, lr=0.1, weight_decay=0.4)
    for p in (matrix, vector, other):
        p.grad = torch.ones_like(p)
    optimizer.update_hessian(1)
    for p in (matrix, vector, other):
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert matrix.item() == pytest.approx(2.0 * (1 - 0.1 * 0.4))
    assert vector.item() == other.item() == 2.0
    assert optimizer.state[matrix]["m"].item() == 0.0


def test_without_curvature_a_coordinate_moves_by_lr_and_never_to_nan() -> None:
    p = parameter([1.0, 1.0, 1.0, 1.0])
    optimizer = SophiaG([p], lr=0.1)
    estimate(optimizer, p, [0.0, 0.0, 0.0, 1.0])
    step(optimizer, p, [1e-3, -1e30, 0.0, 0.0])
    assert p.tolist() == pytest.approx([0.9, 1.1, 1.0, 1.0])
    assert optimizer.unclipped == 0.5


def test_little_curvature_divides_in_full_down_to_the_floor() -> None:
    p = parameter([0.0, 0.0])
    optimizer = SophiaG([p], lr=1.0, betas=(0.0, 0.0), rho=1.0)
    estimate(optimizer, p, [1e-5, 0.0])
    step(optimizer, p, [0.5e-10, 0.25e-15])
    assert p.tolist() == pytest.approx([-0.5, -0.25], rel=1e-5)


def test_the_constants_are_those_of_the_paper() -> None:
    known = {"betas": (0.965, 0.99), "rho": 0.04, "weight_decay": 0.2, "every": 10}
    assert SophiaG([parameter([1.0])], lr=0.1).defaults == known | {"lr": 0.1}


def test_unclipped_counts_coordinates_over_all_parameters() -> None:
    p, q = parameter([0.0] * 3), parameter([0.0])
    optimizer = SophiaG([p, q], lr=0.1, betas=(0.0, 0.0), rho=1.0)
    assert math.isnan(optimizer.unclipped)
    p.grad, q.grad = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0])
    optimizer.update_hessian(1)
    p.grad, q.grad = torch.tensor([-0.9, -1.1, 1.0]), torch.tensor([3.9])
    optimizer.step()
    assert optimizer.unclipped == 0.75  # one at the bound is not changed by it
    assert p.tolist() == pytest.approx([0.09, 0.1, -0.1])


def test_parameters_without_gradient_stay_as_they_are() -> None:
    p, q = parameter([1.0]), parameter([[1.0]])
    optimizer = SophiaG([p, q], lr=0.1)
    estimate(optimizer, p, [1.0])
    step(optimizer, p, [1.0])
    assert q.item() == 1.0 and q not in optimizer.state


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_state_is_float32_and_a_parameter_is_rounded_once(dtype: torch.dtype) -> None:
    p = parameter([[1.0, 1 + 2**-30]] if dtype == torch.float64 else [[1.0, 0.5]], dtype)
    start = p.detach().clone()
    optimizer = SophiaG([p], lr=0.01, weight_decay=0.2)
    # squares of this are below the smallest float16
    estimate(optimizer, p, [[1e-4, 1e-4]])
    step(optimizer, p, [[1.0, -1.0]])
    assert {kept.dtype for kept in optimizer.state[p].values()} == {torch.float32}
    assert (optimizer.state[p]["h"] > 0).all()
    wide = start.to(torch.float64) * (1 - 0.01 * 0.2) - torch.tensor([[0.01, -0.01]], dtype=torch.float64)
    assert p.dtype == dtype
    torch.testing.assert_close(p.detach(), wide.to(dtype), rtol=1e-9 if dtype == torch.float64 else 0, atol=0)


def test_a_closure_makes_the_gradient_of_the_step() -> None:
    p = parameter([2.0])
    optimizer = SophiaG([p], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss.item()

    with pytest.raises(InputError, match="never estimated"):
        optimizer.step(closure)
    assert p.grad is None  # refused before the closure has run
    estimate(optimizer, p, [1.0])
    assert optimizer.step(closure) == 4.0
    assert p.item() == pytest.approx(1.9)


# Saving


def trained(model: nn.Module, optimizer: SophiaG, turns: range) -> None:
    """Training whose batches and drawn labels are decided by the turn alone."""
    for turn in turns:
        torch.manual_seed(turn)
        tokens = 8 + turn % 5
        x = torch.randn(tokens, 6, dtype=next(model.parameters()).dtype)
        if optimizer.hessian_due:
            logits = model(x)
            drawn = torch.multinomial(softmax(logits.detach().float(), -1), 1).flatten()
            cross_entropy(logits, drawn).backward()
            optimizer.update_hessian(tokens)
        cross_entropy(model(x), torch.randint(4, (tokens,))).backward()
        optimizer.step()
        optimizer.zero_grad()


def model_and_optimizer(dtype: torch.dtype, *, seed: int = 0) -> tuple[nn.Module, SophiaG]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 4)).to(dtype)
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[1:].parameters()), "weight_decay": 0.0}]
    return model, SophiaG(groups, lr=0.02, every=5)


def everything(model: nn.Module, optimizer: SophiaG) -> list[torch.Tensor]:
    averages = [optimizer.state[p][name] for p in model.parameters() for name in ("m", "h")]
    return [*model.state_dict().values(), *averages]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [4, 5, 8])
def test_resumed_training_equals_uninterrupted_to_the_bit(tmp_path: Path, dtype: torch.dtype, stop: int) -> None:
    whole, all_along = model_and_optimizer(dtype)
    trained(whole, all_along, range(17))
    half, before = model_and_optimizer(dtype)
    trained(half, before, range(stop))
    torch.save({"model": half.state_dict(), "optimizer": before.state_dict()}, tmp_path / "state.pt")

    rest, after = model_and_optimizer(dtype, seed=1)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    rest.load_state_dict(saved["model"])
    after.load_state_dict(saved["optimizer"])
    assert math.isnan(after.unclipped)
    trained(rest, after, range(stop, 17))
    for one, other in zip(everything(whole, all_along), everything(rest, after), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert all_along.state_dict()["param_groups"] == after.state_dict()["param_groups"]
    assert after.unclipped == all_along.unclipped


def test_saved_between_estimate_and_step_the_estimate_is_not_made_again(tmp_path: Path) -> None:
    p = parameter([1.0])
    optimizer = SophiaG([p], lr=0.1)
    estimate(optimizer, p, [2.0], bs=7)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = SophiaG([q := parameter([1.0])], lr=0.1)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert not other.hessian_due
    assert torch.equal(other.state[q]["h"], optimizer.state[p]["h"])
    assert other.state_dict()["param_groups"][0]["bs"] == 7


def test_a_loaded_state_shares_nothing_with_the_one_it_came_from() -> None:
    p, q = parameter([1.0]), parameter([1.0])
    one, other = SophiaG([p], lr=0.1), SophiaG([q], lr=0.1)
    estimate(one, p, [1.0])
    other.load_state_dict(one.state_dict())
    step(one, p, [1.0])
    assert other.state[q]["m"].item() == 0.0
    assert one.state[p]["m"].item() != 0.0
    assert one.unclipped == 0.0
    one.load_state_dict(other.state_dict())
    assert math.isnan(one.unclipped)


def test_a_copy_goes_on_by_itself() -> None:
    model, optimizer = model_and_optimizer(torch.float32)
    trained(model, optimizer, range(7))
    model_too, optimizer_too = copy.deepcopy((model, optimizer))
    trained(model, optimizer, range(7, 12))
    trained(model_too, optimizer_too, range(7, 12))
    for one, other in zip(everything(model, optimizer), everything(model_too, optimizer_too), strict=True):
        assert torch.equal(one, other)


def test_a_scheduler_changes_lr_and_nothing_else() -> None:
    p = parameter([1.0])
    optimizer = SophiaG([p], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda turn: 0.5**turn)
    estimate(optimizer, p, [0.0])
    for known in (0.9, 0.85, 0.825):
        step(optimizer, p, [1.0])
        scheduler.step()
        assert p.item() == pytest.approx(known)


# What is refused


def test_a_step_without_estimate_or_with_an_old_one_is_refused() -> None:
    p = parameter([1.0])
    optimizer = SophiaG([p], lr=0.1, every=2)
    with pytest.raises(InputError, match="never estimated"):
        step(optimizer, p, [1.0])
    estimate(optimizer, p, [1.0])
    step(optimizer, p, [1.0])
    step(optimizer, p, [1.0])
    before = p.item()
    with pytest.raises(InputError, match="2 steps old"):
        step(optimizer, p, [1.0])
    assert p.item() == before


def test_an_estimate_that_is_not_due_is_refused() -> None:
    p = parameter([1.0])
    optimizer = SophiaG([p], lr=0.1, every=2)
    estimate(optimizer, p, [1.0])
    h = optimizer.state[p]["h"].clone()
    with pytest.raises(InputError, match="hessian_due"):
        estimate(optimizer, p, [1.0])
    step(optimizer, p, [1.0])
    with pytest.raises(InputError, match="hessian_due"):
        estimate(optimizer, p, [1.0])
    assert torch.equal(optimizer.state[p]["h"], h)


@pytest.mark.parametrize("bs", [0, -4, 0.5, math.nan, math.inf])
def test_a_bs_that_is_no_number_of_tokens_is_refused(bs: int) -> None:
    p = parameter([1.0])
    optimizer = SophiaG([p], lr=0.1)
    with pytest.raises(InputError, match=f"bs is {bs}"):
        estimate(optimizer, p, [1.0], bs=bs)
    assert optimizer.hessian_due


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_estimate_that_is_not_finite_is_refused_and_leaves_no_trace(value: float) -> None:
    p, q = parameter([1.0]), parameter([1.0, 1.0])
    optimizer = SophiaG([p, q], lr=0.1)
    p.grad = torch.ones(1)
    with pytest.raises(InputError, match="not finite"):
        estimate(optimizer, q, [1.0, value])
    assert optimizer.hessian_due and not optimizer.state


def test_an_estimate_without_gradient_is_refused() -> None:
    with pytest.raises(InputError, match="no parameter has a gradient"):
        SophiaG([parameter([1.0])], lr=0.1).update_hessian(1)


def test_sparse_gradients_are_refused_before_anything_moves() -> None:
    table, p = nn.Embedding(5, 2, sparse=True), parameter([1.0])
    optimizer = SophiaG([p, *table.parameters()], lr=0.1)
    table(torch.tensor([1])).sum().backward()
    p.grad = torch.ones(1)
    with pytest.raises(InputError, match="sparse"):
        optimizer.update_hessian(1)
    table.weight.grad = None
    optimizer.update_hessian(1)
    table(torch.tensor([1])).sum().backward()
    p.grad = torch.ones(1)
    with pytest.raises(InputError, match="sparse"):
        optimizer.step()
    assert p.item() == 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -1.0},
        {"lr": math.nan},
        {"betas": (1.0, 0.99)},
        {"betas": (0.9, -0.1)},
        {"rho": 0.0},
        {"weight_decay": -0.1},
        {"every": 0},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused_for_all_and_for_a_group(options: dict[str, float]) -> None:
    name = next(iter(options))
    with pytest.raises(InputError, match=f"{name} is"):
        SophiaG([parameter([1.0])], **{"lr": 0.1} | options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"{name} is"):
        SophiaG([{"params": [parameter([1.0])]} | options], lr=0.1)


def test_groups_share_every() -> None:
    with pytest.raises(InputError, match="every is 5"):
        SophiaG([{"params": [parameter([1.0])], "every": 5}], lr=0.1)


def test_a_group_added_later_is_trained_at_once() -> None:
    p, q = parameter([1.0]), parameter([1.0])
    optimizer = SophiaG([p], lr=0.1)
    estimate(optimizer, p, [1.0])
    step(optimizer, p, [1.0])
    optimizer.add_param_group({"params": [q], "lr": 0.3})
    step(optimizer, q, [1.0])
    assert q.item() == pytest.approx(0.7)
    assert not optimizer.hessian_due


def test_the_state_of_another_optimizer_is_refused() -> None:
    p = parameter([1.0])
    with pytest.raises(InputError, match="not the state of a SophiaG"):
        SophiaG([p], lr=0.1).load_state_dict(torch.optim.AdamW([p]).state_dict())


# Several processes


def test_two_processes_have_the_h_of_the_whole_batch(tmp_path: Path) -> None:
    """Uneven shares of the tokens, each rank's loss being its sum times ranks / bs, as the class says.

    DDP's hooks on the parameters hold the process group: where one outlives destroy_process_group, its thread now and then
    aborts the process as it ends. So only copies leave `made`, and the cycles of DDP are collected first.
    """
    script = tmp_path / "ranks.py"
    script.write_text(
        "import gc, torch, torch.distributed as dist\n"
        "from torch.nn import functional as F\n"
        "from vsat.model.sophia import SophiaG\n"
        "dist.init_process_group('gloo')\n"
        "rank = dist.get_rank()\n"
        "torch.manual_seed(0)\n"
        "x, labels = torch.randn(12, 5), torch.randint(3, (12,))\n"
        "def made(wrap, mine, ranks):\n"
        "    torch.manual_seed(1)\n"
        "    model = torch.nn.Linear(5, 3)\n"
        "    optimizer = SophiaG(model.parameters(), lr=0.01)\n"
        "    wrapped = wrap(model)\n"
        "    for _ in range(3):\n"
        "        for estimate in (True, False) if optimizer.hessian_due else (False,):\n"
        "            loss = F.cross_entropy(wrapped(x[mine]), labels[mine], reduction='sum') * ranks / len(x)\n"
        "            loss.backward()\n"
        "            optimizer.update_hessian(len(x)) if estimate else optimizer.step()\n"
        "        optimizer.zero_grad()\n"
        "    made = [*(optimizer.state[p]['h'] for p in model.parameters()), *model.parameters()]\n"
        "    return [tensor.detach().clone() for tensor in made]\n"
        "alone = made(lambda model: model, slice(None), 1)\n"
        "mine = slice(0, 3) if rank == 0 else slice(3, 12)\n"
        "shared = made(torch.nn.parallel.DistributedDataParallel, mine, 2)\n"
        "for one, other in zip(alone, shared, strict=True):\n"
        "    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-8)\n"
        "gc.collect()\n"
        "dist.destroy_process_group()\n"
    )
    run = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *run, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
