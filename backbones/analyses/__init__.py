"""Analyses: functions of finished runs, by name; imported on first use."""

from rlbench.names import NameTable

ANALYSES = NameTable(
    "analysis",
    __name__,
    {
        "edges": (
            "edges:EdgeNorms",
            "what an RFM attends to before agents take items, alone or together",
        ),
        "company": (
            "company:Company",
            "how much others matter for an agent's return, moment by moment",
        ),
        "other-tasks": ("other_tasks:OtherTasks", "a trained model on the examples of other tasks"),
    },
    group="rlbench.analyses",
)
