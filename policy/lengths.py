"""How long a model's answers are, once some have been seen: the profile's belief, drawn toward what the logs show.

Logarithms of lengths are taken as normal with unknown mean and variance; the profile counts as `prior_strength` answers that were seen
before (a normal-inverse-gamma prior with as many degrees of freedom). Sums are enough, so whoever counts keeps three numbers for each
task and model. What is seen must already allow for answers that were cut (`estimate.lengths`): leaving just those out makes what remains
too short.
"""

import math

from bestserve.profiles.schema import Answers


def refined(answers: Answers, log_sum: float, log_sumsq: float, n: int, prior_strength: float = 20.0) -> Answers:
    """`answers` after `n` more, whose log(tokens) sum to `log_sum` and the squares of which to `log_sumsq`. Raises ValueError."""
    if n < 0 or prior_strength < 0 or not (math.isfinite(log_sum) and math.isfinite(log_sumsq)):
        raise ValueError(f"{n} answers, sums {log_sum} and {log_sumsq}, a prior of {prior_strength}: not what was counted")
    if n == 0:
        return answers
    before, seen = math.log(answers.median), log_sum / n
    total = prior_strength + n
    mean = (prior_strength * before + log_sum) / total
    inside = max(log_sumsq - n * seen * seen, 0.0)
    between = prior_strength * n / total * (seen - before) ** 2
    return Answers(math.exp(mean), math.sqrt((prior_strength * answers.sigma**2 + inside + between) / total))
