"""Information bottleneck actor-critic with selective noise injection: Igl et al., 2019.

Here is the paper's supervised task, which shows what a bottleneck does before any reinforcement
learning.
"""

from rlbench.benchmarks.paper import Paper
from rlbench.benchmarks.papers import ibac_toy

PAPER = Paper(
    name="ibac-sni",
    title="Generalization in Reinforcement Learning with Selective Noise Injection and Information "
    "Bottleneck",
    reference="Igl et al., 2019, https://arxiv.org/abs/1910.12911",
    method="VIB",
    grids=ibac_toy.GRIDS,
    minutes=ibac_toy.MINUTES,
    claims=(ibac_toy.C1,),
    notes="Signals: the score is 100 where the right class gets all probability and 0 where all classes "
    "get the same; a loss of L nats is 100 (1 - L / ln 5). The authors' plots show half the mean loss, "
    "for their code counts each batch twice.",
)
