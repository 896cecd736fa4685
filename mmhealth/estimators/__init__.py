"""The mathematics of policy-gradient health: NumPy in, numbers out; one metric a file.

Everything is float64, works in log space, and does not depend on the order of rows. Input that is
empty, of the wrong shape or not finite raises `mmhealth.errors.EstimatorInputError`: the caller
filters and counts. Only log weights may be -inf, the weight zero. Nothing returns NaN.
"""

from mmhealth.estimators.alignment import gradient_diversity, opposing_share
from mmhealth.estimators.baseline_weights import baseline_weights
from mmhealth.estimators.counts import clopper_pearson, poisson_upper
from mmhealth.estimators.edetector import EDetector
from mmhealth.estimators.entropy import entropy, token_mean
from mmhealth.estimators.ess import EssSums, ess, signal_log_weights
from mmhealth.estimators.forecast import Crossing, forecast_crossing, trend_slope
from mmhealth.estimators.gini import gini, lorenz
from mmhealth.estimators.groups import (
    GroupShares,
    group_codes,
    group_outcome,
    group_shares,
    order_in_groups,
    shares_and_outcome,
)
from mmhealth.estimators.histogram import (
    LOG_RATIO_EDGES_V1,
    LOG_RATIO_RELATIVE_ERROR_V1,
    LOG_RATIO_SLOTS_V1,
    histogram_percentile,
    log_ratio_histogram,
    merge_histograms,
    nonfinite_tokens,
)
from mmhealth.estimators.horizon import HorizonCell, HorizonMatrix, wilson_interval
from mmhealth.estimators.intervals import PopulationInterval, ess_interval, gini_interval
from mmhealth.estimators.kl import kl_estimate, kl_terms
from mmhealth.estimators.noise import GradientNoise, gradient_noise
from mmhealth.estimators.nonfinite import NonFinite, count_nonfinite
from mmhealth.estimators.pareto import khat_threshold, pareto_khat
from mmhealth.estimators.proportions import difference_interval, newcombe_interval
from mmhealth.estimators.regression import regression_step
from mmhealth.estimators.second_moments import SecondMoments, second_moments
from mmhealth.estimators.shares import max_weight_share, top_share
from mmhealth.estimators.sketch import Sketch, sketch
from mmhealth.estimators.stall import last_judged_step, stall_step
from mmhealth.estimators.zeros import ess_interval_from_zeros, gini_interval_from_zeros

__all__ = [
    "LOG_RATIO_EDGES_V1",
    "LOG_RATIO_RELATIVE_ERROR_V1",
    "LOG_RATIO_SLOTS_V1",
    "Crossing",
    "EDetector",
    "EssSums",
    "GradientNoise",
    "GroupShares",
    "HorizonCell",
    "HorizonMatrix",
    "NonFinite",
    "PopulationInterval",
    "SecondMoments",
    "Sketch",
    "baseline_weights",
    "clopper_pearson",
    "count_nonfinite",
    "difference_interval",
    "entropy",
    "ess",
    "ess_interval",
    "ess_interval_from_zeros",
    "forecast_crossing",
    "gini",
    "gini_interval",
    "gini_interval_from_zeros",
    "gradient_diversity",
    "gradient_noise",
    "group_codes",
    "group_outcome",
    "group_shares",
    "histogram_percentile",
    "khat_threshold",
    "kl_estimate",
    "kl_terms",
    "last_judged_step",
    "log_ratio_histogram",
    "lorenz",
    "max_weight_share",
    "merge_histograms",
    "newcombe_interval",
    "nonfinite_tokens",
    "opposing_share",
    "order_in_groups",
    "pareto_khat",
    "poisson_upper",
    "regression_step",
    "second_moments",
    "shares_and_outcome",
    "signal_log_weights",
    "sketch",
    "stall_step",
    "token_mean",
    "top_share",
    "trend_slope",
    "wilson_interval",
]
