"""The head's distribution against textbook integrals."""

from itertools import pairwise

import numpy as np
import pytest
import scoringrules
import torch
from scipy import stats

from vsat.model import loss
from vsat.model.loss import (
    BIN_COUNT,
    cross_entropy,
    crps,
    edges,
    inverse,
    moments,
    quantiles,
    sampled_targets,
    score,
    start_logits,
)

EDGE = edges().double().numpy()
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def logits(count: int = 24, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return start_logits() + torch.randn(count, BIN_COUNT, generator=generator)


def cdfs(given: torch.Tensor) -> np.ndarray:
    mass = torch.softmax(given.double(), -1).numpy()
    return np.concatenate([np.zeros((*mass.shape[:-1], 1)), mass.cumsum(-1)], -1)


def truths(count: int = 24) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(1).standard_t(2, count), dtype=torch.float32).clamp(-17, 17)


def integrated(cdf: np.ndarray, true: float) -> float:
    """Of (F - 1{x >= truth})^2: Simpson between edges and truth, exact for what is quadratic there."""
    nodes = np.unique(np.append(EDGE, true))
    low, high = nodes[:-1], nodes[1:]
    middle = (low + high) / 2
    step = (middle > true).astype(float)
    ends = [(np.interp(x, EDGE, cdf) - step) ** 2 for x in (low, middle, high)]
    return float(((high - low) * (ends[0] + 4 * ends[1] + ends[2]) / 6).sum())


def test_crps_is_the_integral() -> None:
    given, true = logits(), truths()
    wanted = [integrated(cdf, float(x)) for cdf, x in zip(cdfs(given), true, strict=True)]
    np.testing.assert_allclose(crps(given, true), wanted, rtol=2e-4, atol=1e-5)


def test_crps_is_that_of_a_large_sample() -> None:
    given, true = logits(), truths()
    levels = np.broadcast_to((np.arange(4000, dtype=np.float32) + 0.5) / 4000, (24, 4000))
    cdf = np.repeat(cdfs(given)[:, None].astype(np.float32), 4000, axis=1)
    wanted = scoringrules.crps_ensemble(true.numpy(), inverse(levels, cdf), estimator="qd")
    np.testing.assert_allclose(crps(given, true), wanted, rtol=5e-3, atol=2e-3)


def test_truths_beyond_the_edges_count_as_on_them() -> None:
    given = logits(2)
    end = float(EDGE[-1])
    torch.testing.assert_close(crps(given, torch.tensor([1e5, -1e5])), crps(given, torch.tensor([end, -end])))


def test_bins_are_even_in_asinh_and_symmetric() -> None:
    assert len(EDGE) == BIN_COUNT + 1
    np.testing.assert_allclose(np.diff(np.arcsinh(EDGE)), 2 * loss.REACH / BIN_COUNT, rtol=1e-5)
    np.testing.assert_allclose(EDGE, -EDGE[::-1], atol=1e-6)


def test_quantiles_invert_the_distribution_function() -> None:
    given = logits()
    found = quantiles(given, LEVELS)
    assert found.shape == (24, len(LEVELS)) and (found.diff(dim=-1) > 0).all()
    for cdf, row in zip(cdfs(given), found.numpy(), strict=True):
        np.testing.assert_allclose(np.interp(row, EDGE, cdf), LEVELS, atol=2e-6)


def test_quantiles_of_all_mass_in_one_bin_lie_in_it() -> None:
    for k in (0, 17, BIN_COUNT - 1):
        given = torch.full((BIN_COUNT,), -200.0)
        given[k] = 200.0
        found = quantiles(given, (0.05, 0.25, 0.5, 0.75, 0.95)).numpy()
        assert (np.diff(found) >= 0).all() and found[0] >= EDGE[k] - 1e-6 and found[-1] <= EDGE[k + 1] + 1e-6
        np.testing.assert_allclose(found[2], (EDGE[k] + EDGE[k + 1]) / 2, atol=1e-5)


def test_an_untrained_model_says_a_student_distribution_about_nought() -> None:
    found = quantiles(start_logits(), LEVELS).double().numpy()
    assert abs(found[3]) < 1e-5
    np.testing.assert_allclose(found, -found[::-1], atol=1e-4)
    np.testing.assert_allclose(found[[4, 5, 6]], stats.t(3).ppf([0.75, 0.95, 0.99]), rtol=0.03)
    mean, sd = moments(start_logits())
    assert abs(float(mean)) < 1e-5 and 1.2 < float(sd) < np.sqrt(3)  # what lies beyond the edges is left out


def test_a_numpy_inverse_is_the_same_one() -> None:
    given = logits()
    cdf = cdfs(given).astype(np.float32)
    for level, wanted in zip(LEVELS, quantiles(given, LEVELS).T, strict=True):
        np.testing.assert_allclose(inverse(np.full(24, level, np.float32), cdf), wanted, atol=1e-3)


def test_moments_are_those_of_uniform_bins() -> None:
    given = logits()
    fine = [np.linspace(a, b, 2001) for a, b in pairwise(EDGE)]
    first = np.array([x.mean() for x in fine])
    second = np.array([np.trapezoid(x**2, x) / (x[-1] - x[0]) for x in fine])
    mass = torch.softmax(given.double(), -1).numpy()
    mean, sd = moments(given)
    np.testing.assert_allclose(mean, mass @ first, atol=1e-4)
    np.testing.assert_allclose(sd, np.sqrt(mass @ second - (mass @ first) ** 2), rtol=1e-4)


def test_sampled_targets_follow_the_distribution() -> None:
    given, count = logits(3), 10_000
    many = given[:, None].expand(-1, count, -1).reshape(-1, BIN_COUNT)
    drawn = sampled_targets(many, torch.Generator().manual_seed(0)).view(3, count)
    mass = torch.softmax(given, -1).numpy()
    for row, wanted in zip(drawn, mass, strict=True):
        share = np.bincount(row.numpy(), minlength=BIN_COUNT) / count
        assert (np.abs(share - wanted) < 5 * np.sqrt(wanted / count) + 2 / count).all()
    again = sampled_targets(many, torch.Generator().manual_seed(0)).view(3, count)
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, sampled_targets(many, torch.Generator().manual_seed(1)).view(3, count))


@pytest.mark.parametrize("far", [30.0, 1e4, 1e8, 1e20])
def test_gradients_are_finite_for_truths_far_outside(far: float) -> None:
    given = torch.cat([logits(2), 300 * logits(2, seed=3)]).requires_grad_()
    true = torch.tensor([far, -far, far, -far])[:, None]
    found, count = score(given, true, torch.ones(4, dtype=torch.bool), torch.ones(4))
    found.backward()
    assert count == 4 and torch.isfinite(found) and given.grad is not None and torch.isfinite(given.grad).all()
    assert given.grad[:2].abs().sum() > 0


def test_a_gradient_leads_to_the_truth() -> None:
    given, true = start_logits()[None].repeat(5, 1).requires_grad_(), torch.tensor([-4.0, -0.5, 0.0, 0.5, 4.0])
    steps = torch.optim.Adam([given], 0.1)
    for _ in range(150):
        steps.zero_grad()
        score(given, true[:, None], torch.ones(5, dtype=torch.bool), torch.ones(5))[0].backward()
        steps.step()
    off = (quantiles(given.detach(), (0.5,))[:, 0] - true).abs()
    assert (off < 0.1 * (1 + true.abs())).all()


def test_cross_entropy_is_least_where_its_label_is() -> None:
    true = torch.tensor([0.0, 1.0, -7.0])
    best = (-0.5 * ((torch.arange(BIN_COUNT) - _bin(true)[:, None]) / loss.SMOOTH) ** 2).log_softmax(-1)
    least = cross_entropy(best, true)
    for seed in range(5):
        other = best + 0.3 * torch.randn(best.shape, generator=torch.Generator().manual_seed(seed))
        assert (cross_entropy(other, true) > least).all()


def _bin(true: torch.Tensor) -> torch.Tensor:
    """Of which bin the truth lies in the middle, in parts of a bin."""
    middle = np.arcsinh(EDGE)[:-1] + loss.REACH / BIN_COUNT
    return torch.tensor(np.interp(np.arcsinh(true.numpy()), middle, np.arange(BIN_COUNT)), dtype=torch.float32)


def test_a_score_is_the_weighted_mean_of_what_is_scored() -> None:
    given, true = logits(), truths()
    scored, weight = torch.arange(24) % 3 == 0, torch.linspace(0.2, 2, 24)
    each = crps(given, true) + loss.ENTROPY_SHARE * cross_entropy(given, true)
    found, count = score(given, true[:, None], scored, weight)
    assert count == 8
    torch.testing.assert_close(found, (each * weight)[scored].sum() / 8)
    garbage = torch.where(scored, true, torch.tensor(float("nan")))[:, None]
    assert torch.equal(score(given, garbage, scored, weight)[0], found)
    none, count = score(given.requires_grad_(), true[:, None], torch.zeros(24, dtype=torch.bool), weight)
    none.backward()
    assert none == 0 and count == 0 and given.grad is not None and not given.grad.any()


def test_the_gradient_over_skies_is_the_mean_of_each_sky_s_own() -> None:
    generator = torch.Generator().manual_seed(4)
    true = 3 * torch.randn(24, 4, generator=generator)
    scored, weight = torch.arange(24) % 3 != 0, torch.linspace(0.2, 2, 24)

    def of(skies: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        given = logits().requires_grad_()
        found, count = score(given, true[:, skies], scored, weight)
        found.backward()
        assert given.grad is not None
        return found.detach(), count, given.grad

    found, count, grad = of(slice(None))
    losses, counts, grads = zip(*(of(slice(n, n + 1)) for n in range(4)), strict=True)
    assert count == counts[0] == 16
    torch.testing.assert_close(found, torch.stack(losses).mean())
    torch.testing.assert_close(grad, torch.stack(grads).mean(0))
    assert not torch.allclose(grads[0], grads[1], atol=1e-4)


def test_edges_made_while_a_model_is_built_without_values_are_edges_still() -> None:
    """Nor do those made while predicting keep a later training from its gradients: a cache holds them for all."""
    edges.cache_clear()
    with torch.device("meta"):
        start_logits()
    assert edges().device.type == "cpu" and np.isfinite(edges().numpy()).all()
    edges.cache_clear()
    with torch.inference_mode():
        quantiles(logits(1), (0.5,))
    given = logits(2).requires_grad_()
    score(given, torch.zeros(2, 1), torch.ones(2, dtype=torch.bool), torch.ones(2))[0].backward()
    edges.cache_clear()
