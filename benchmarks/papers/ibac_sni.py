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
    notes="Signals: a loss of L nats scores 100 (1 - L / ln 5), so 100 is certain and right, 0 gives all "
    "classes the same, and a score below 0 is a network more certain than it should be. The authors' "
    "code divides by twice the number of batches, so losses in their plots are half of such losses.",
)
