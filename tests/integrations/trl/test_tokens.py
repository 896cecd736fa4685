"""Numbers of a micro-batch against sums taken one token at a time."""

import math

import numpy as np
import torch

from mmhealth.integrations.trl.tokens import ROUNDING, Tokens, measure


def made(seed: int, *, changed: bool = True, noise: float = 0.3) -> Tokens:
    torch.manual_seed(seed)
    shape = 5, 7
    logps = -torch.rand(shape)
    mask = (torch.arange(7) < torch.tensor([[7], [1], [4], [0], [6]])).int()
    tool = torch.ones(shape, dtype=torch.int64)
    tool[0, 2:4] = tool[4, 1] = 0
    return Tokens(
        logps=logps,
        entropies=torch.rand(shape),
        mask=mask * tool,
        tool=tool,
        old=logps + noise * torch.randn(shape),
        sampler=None,
        reference=logps + 0.3 * torch.randn(shape),
        changed=changed,
    )


def test_sums_over_the_tokens_that_count():
    tokens = made(0)
    tokens.sampler = tokens.old + 0.1 * torch.randn(5, 7)
    tokens.sampler[0, 0] = math.nan
    tokens.sampler[1] = math.nan
    found = measure(tokens)
    after, ratios = [], []
    for row in range(5):
        own = [t for t in range(7) if tokens.mask[row, t]]
        update = {t: float(tokens.logps[row, t]) - float(tokens.old[row, t]) for t in own}
        gap = {t: float(tokens.old[row, t]) - float(tokens.sampler[row, t]) for t in own}
        gap = {t: 0.0 if math.isnan(g) else g for t, g in gap.items()}
        whole = [update[t] + gap[t] for t in own]
        ratios += whole
        after += [bool((tokens.tool[row, :t] == 0).any()) for t in own]
        weight = found.updates["log_weight"][row]
        assert math.isclose(weight, math.fsum(whole), abs_tol=1e-12)
        mismatch = found.updates["log_weight_mismatch"][row]
        if row == 1:
            assert mismatch is np.ma.masked
        else:
            assert math.isclose(mismatch, math.fsum(gap.values()), abs_tol=1e-12)
        for name, power in (("token_logsum_w", 1), ("token_logsum_w2", 2)):
            total = math.fsum(math.exp(power * w) for w in whole)
            expected = math.log(total) if own else -math.inf
            assert math.isclose(found.updates[name][row], expected, abs_tol=1e-12)
        assert found.updates["log_ratio_max"][row] == max(map(abs, whole), default=0.0)
        if own:
            entropy = math.fsum(float(tokens.entropies[row, t]) for t in own) / len(own)
            assert math.isclose(found.trajectories["entropy"][row], entropy, rel_tol=1e-12)
            far = {t: float(tokens.reference[row, t]) - float(tokens.logps[row, t]) for t in own}
            kl = math.fsum(math.exp(d) - d - 1 for d in far.values()) / len(own)
            assert math.isclose(found.trajectories["kl_ref"][row], kl, rel_tol=1e-9)
    assert found.trajectories["token_count"].tolist() == [5, 1, 4, 0, 5]
    assert found.unscored == 2
    assert np.allclose(found.ratios, ratios, rtol=1e-6, atol=0)
    assert found.after_tool is not None
    assert found.after_tool.tolist() == after


def test_rounding_is_no_ratio_while_the_policy_has_not_changed():
    tokens = made(1, changed=False, noise=ROUNDING / 10)
    found = measure(tokens)
    assert not found.updates["log_weight"].any()
    counts = found.trajectories["token_count"]
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(found.updates["token_logsum_w"], np.log(counts))
    assert 0 < found.updates["log_ratio_max"].max() < ROUNDING
    tokens.changed = True
    assert measure(tokens).updates["log_weight"].any()


def test_a_real_ratio_is_kept_even_while_the_policy_has_not_changed():
    found = measure(made(2, changed=False, noise=0.1))
    assert found.updates["log_weight"].any()


def test_what_is_not_finite_stays_visible():
    tokens = made(3)
    tokens.logps[2, 1] = math.nan
    tokens.logps[4, 0] = -math.inf
    found = measure(tokens)
    assert math.isnan(found.updates["log_weight"][2])
    assert found.updates["log_weight"][4] == -math.inf
