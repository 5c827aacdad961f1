"""Models: supervised learners over any encoder, by name; imported on first use."""

from rlbench.names import NameTable

MODELS = NameTable(
    "model",
    __name__,
    {
        "classifier": ("classifier:Classifier", "any encoder with a linear head, by cross-entropy"),
        "vib": ("vib:VIB", "classifier with an information bottleneck, weight decay or dropout"),
    },
    group="rlbench.models",
)
