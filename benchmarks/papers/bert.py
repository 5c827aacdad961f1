"""BERT: Devlin et al., 2019 (sections 3.1 and 5.1), on the language of BabyAI's missions.

A transformer is trained on missions without labels and then fine-tuned on few labelled ones: what is the colour of the
object that the agent has to deal with first? Pre-training with hidden words, which reads both sides of each word, is
compared with pre-training from left to right, and with none.
"""

from collections.abc import Mapping
from typing import Any

from rlbench.benchmarks.papers._shown import by_seed
from rlbench.benchmarks.papers._step_sizes import best, methods, name
from rlbench.benchmarks.tables.paper import Claim, Grid, Method, Paper, Scale, Verdict
from rlbench.benchmarks.tables.results import Results

TASK, WORDS = "missions", "missions-unlabelled"
MASKED, LEFT_TO_RIGHT, SCRATCH, UNTRAINED = (
    "hidden words",
    "left to right",
    "from scratch",
    "untrained",
)
FORMS = {MASKED: "transformer", LEFT_TO_RIGHT: "transformer:reads=past"}
"""Encoders of the two forms of pre-training."""
LABELS = (50, 200)
"""Labelled missions."""
STEP_SIZES = (1e-3, 3e-4)
FEW = LABELS[0]


def model(form: str) -> str:
    """The name of a language model."""
    return f"language model, {form}"


def tuned(start: str, labels: int) -> str:
    """The name of a classifier."""
    return f"{start}, {labels} labels"


def _grids(words: Mapping[str, Any], updates: int) -> tuple[Grid, ...]:
    models = tuple(
        Method(model(form), "language-model", {"encoder": encoder})
        for form, encoder in FORMS.items()
    )
    grids = [Grid(models, (WORDS,), seeds=3, run=words)]
    for labels in LABELS:
        run = {"updates": updates, "eval_every": 0, "log_every": 20, "data_size": labels}
        classifiers: list[Method] = []
        for start, encoder in {SCRATCH: FORMS[MASKED], **FORMS}.items():
            settings = {tuned(start, labels): {"encoder": encoder, "batch_size": 32}}
            pretrained = None if start == SCRATCH else (model(start), WORDS)
            classifiers += methods(
                "sequence-classifier", settings, STEP_SIZES, pretrained=pretrained
            )
        grids.append(Grid(tuple(classifiers), (TASK,), seeds=3, run=run))
    untrained = Method(
        UNTRAINED, "sequence-classifier", {"encoder": FORMS[MASKED], "learning_rate": 0.0}
    )
    once = {"updates": 1, "eval_every": 0}
    return (*grids, Grid((untrained,), (TASK,), seeds=3, run=once))


def _pretraining_helps(results: Results) -> Verdict:
    means: dict[tuple[str, int], float] = {}
    parts = []
    for labels in LABELS:
        for start in (SCRATCH, *FORMS):
            method = best(results, tuned(start, labels), STEP_SIZES, TASK)
            found = 100 * results.means(method, TASK, "accuracy")
            means[start, labels] = float(found.mean())
            parts.append(f"{method}: {by_seed(found)}")
    untrained = 100 * results.means(UNTRAINED, TASK, "accuracy").mean()
    holds = means[MASKED, FEW] >= means[SCRATCH, FEW] + 10 and all(
        means[MASKED, labels] >= means[LEFT_TO_RIGHT, labels] for labels in LABELS
    )
    return Verdict(
        holds, f"accuracy in % (by seed): {'; '.join(parts)}; {UNTRAINED}: {untrained:.1f}"
    )


SCALES: dict[Scale, tuple[Grid, ...]] = {
    "small": _grids(
        {"updates": 4_000, "eval_every": 1_000, "log_every": 100, "checkpoint_every": 500}, 200
    ),
    "full": _grids(
        {"updates": 50_000, "eval_every": 5_000, "log_every": 500, "checkpoint_every": 5_000}, 1_000
    ),
}

PAPER = Paper(
    name="bert",
    title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
    reference="Devlin et al., 2019, https://arxiv.org/abs/1810.04805",
    method=name(tuned(MASKED, FEW), STEP_SIZES[0]),
    grids=SCALES,
    minutes={"small": 30, "full": 600},
    claims=(
        Claim(
            "W1", "Pre-training with hidden words helps with few labels, and more than from left to right",
            f"accuracy, mean of 3 seeds, each with its best step size: with {FEW} labels at least 10 points above no "
            "pre-training, and with 50 and 200 labels at least as high as after pre-training from left to right",
            _pretraining_helps,
        ),
    ),
    notes="Accuracy on 800 missions; the most frequent of the seven classes has 0.23. No mission of the pre-training is labelled, and no "
    "labelled one is in the test.",
)  # fmt: skip
