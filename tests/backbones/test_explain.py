"""The analysis `explain`: of classifiers, of policies with discrete and continuous actions and with a memory; its files, errors and settings."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from PIL import Image

from rlbench.agents import load_agent
from rlbench.backbones.analyses._maps import heat, sheet
from rlbench.backbones.analyses._pictures import as_picture
from rlbench.backbones.analyses._predictor import Predictor
from rlbench.backbones.analyses.explain import Explain, ExplainConfig, Subject
from rlbench.backbones.layers._recording import Smooth
from rlbench.backbones.layers.manipulation import correlation
from rlbench.backbones.models.classifier import Classifier, ClassifierConfig
from rlbench.errors import UserError
from rlbench.experience import Examples
from rlbench.interface import Spec, evaluating
from tests.images import labelled

PICTURE = Box(0, 255, (8, 8, 3), dtype=np.uint8)
QUICK: dict[str, Any] = {
    "examples": 4, "fit": 6, "steps": 4, "film": 3, "softplus": (1.0, 10.0),
    "methods": ("gradient", "lrp"),
}  # fmt: skip
NETWORK = "conv4:layers=1,width=4,norm=bn"


def images(count: int = 10) -> Examples:
    return Examples({k: torch.as_tensor(v) for k, v in labelled(count, shape=(8, 8, 3)).items()})


def classifier(**settings: Any) -> Classifier:
    config = ClassifierConfig(encoder=NETWORK, batch_size=4, cycle_updates=None, **settings)
    return Classifier(config, {"obs": PICTURE, "label": Discrete(2)}, seed=0)


def explained(learner: Any = None, **settings: Any) -> Any:
    learner = learner or classifier()
    with torch.no_grad(), evaluating(learner):
        return Explain(ExplainConfig(**QUICK | settings)).analyse([learner], {"any": images()})


def agent(name: str = "ppo", actions: Any = None, **settings: Any) -> Any:
    kind = load_agent(name)
    return kind(kind.Config(encoder="conv4:layers=1,width=4,norm=none", **settings), Spec(PICTURE, actions or Discrete(3)), seed=0)  # fmt: skip


def of_agent(learner: Any, **settings: Any) -> Any:
    analysis = Explain(ExplainConfig(**QUICK | settings))
    analysis.observations = lambda count: images(count)["obs"]
    with torch.no_grad(), evaluating(learner):
        return analysis.analyse([learner], {})


def size(picture: Any) -> tuple[int, int]:
    return Image.open(io.BytesIO(picture)).size


def test_a_classifier_has_maps_before_and_after() -> None:
    methods = ExplainConfig().methods
    found = explained(methods=methods)
    assert len(methods) == 6
    for method in methods:
        values = {k.split(": ")[1]: x for k, x in found.columns.items() if k.startswith(f"{method}:")}  # fmt: skip
        assert all(x.shape == (4,) and np.isfinite(x).all() for x in values.values())
        assert {"kept", "change", "norm", "ssim, original", "mse, noise", "target after, softplus 10"} <= values.keys()  # fmt: skip
        assert 0 < values["norm"].max() <= 0.8 + 1e-5
        assert found.numbers[f"{method}: target after"] == pytest.approx(values["target after"].mean())  # fmt: skip
    assert not [k for k in found.numbers if "ssim" in k or "mse" in k]
    assert 0 <= found.numbers["accuracy"] <= 1
    assert {"accuracy with softplus 1", "accuracy with softplus 10"} <= found.numbers.keys()
    assert [p.title for p in found.panels] == [f"{x}: correlation with the target" for x in methods]
    assert [line.name for line in found.panels[0].lines] == ["before", "after"]
    assert list(found.panels[0].lines[0].x) == [1.0, 10.0]
    # Seven columns and four rows for each of the first three images.
    assert size(found.files["maps.png"]) == (7 * 124 - 4, 14 + 12 * 124 - 4)
    assert "saliency.gif" not in found.files


def test_results_are_the_same_again_and_the_learner_is_not_changed() -> None:
    model = classifier()
    before = {k: x.clone() for k, x in model.encoder.state_dict().items()}
    one, other = (explained(model, methods=("gradient", "lrp")) for _ in range(2))
    assert one.numbers == other.numbers
    assert all(torch.equal(x, before[k]) for k, x in model.encoder.state_dict().items())
    assert all(p.grad is None for p in model.encoder.parameters())


def test_without_steps_there_are_only_maps() -> None:
    found = explained(steps=0)
    assert found.numbers == {}
    assert found.columns == {}
    assert not found.panels
    assert size(found.files["maps.png"]) == (3 * 124 - 4, 14 + 3 * 124 - 4)


@pytest.mark.parametrize("name", ["ppo", "dqn", "recurrent-ppo"])
def test_a_policy_has_a_film_of_its_maps(name: str) -> None:
    found = of_agent(agent(name), methods=("gradient", "guided-backpropagation"))
    film: Any = Image.open(io.BytesIO(found.files["saliency.gif"]))
    assert (film.n_frames, film.size) == (3, (3 * 124 - 4, 14 + 120))
    assert "same answers with softplus 1" in found.numbers
    assert "accuracy" not in found.numbers
    assert "saliency.gif" not in of_agent(agent(name), methods=("gradient",), steps=0, film=0).files


def test_continuous_actions_may_move_a_little() -> None:
    learner = agent(actions=Box(-1, 1, (2,)))
    found = of_agent(learner, methods=("gradient", "integrated-gradients"), steps=2)
    change = found.columns["gradient: change"]
    assert found.columns["gradient: kept"].tolist() == (change <= 0.1).tolist()
    assert not [x for x in found.numbers if x.startswith("same answers")]
    subject = Subject(
        ExplainConfig(methods=("gradient",)), Predictor(learner), torch.zeros(1, 8, 8, 3)
    )
    x = images()["obs"].float() / 255
    torch.testing.assert_close(subject.answers(x), learner.scores(255 * x))
    assert torch.equal(subject.chosen(x), learner.scores(255 * x).abs().argmax(1))


def test_images_of_an_agent_are_spread_over_its_episodes() -> None:
    learner, seen = agent(), images(20)["obs"]
    analysis = Explain(ExplainConfig(**QUICK | {"examples": 2, "steps": 0, "methods": ("gradient",), "film": 20}))  # fmt: skip
    counts: list[int] = []

    def observed(count: int) -> torch.Tensor:
        counts.append(count)
        return seen

    analysis.observations = observed
    with torch.no_grad(), evaluating(learner):
        found = analysis.analyse([learner], {})
    assert counts == [2, 20]  # The first two show whether there are gradients.
    drawn: Any = found.files["maps.png"]
    whole: Any = Image.open(io.BytesIO(drawn))
    second = np.asarray(whole)[14 + 124 : 14 + 244 : 15, :120:15]
    np.testing.assert_array_equal(second, seen[-1].numpy())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("target", "corner"), ("learning_rate", 0.1), ("map_weight", 0.01), ("answer_weight", 1e6), ("betas", (1.0, 2.0)), ("radius", 0.01),
        ("steps", 1), ("seed", 1), ("fit", 1), ("examples", 3), ("softplus", (2.0,)),
    ],
)  # fmt: skip
def test_every_setting_has_an_effect(setting: str, value: Any) -> None:
    model = classifier()
    methods = ("pattern-attribution",) if setting == "fit" else ("gradient",)
    usual, other = (explained(model, methods=methods, **x) for x in ({}, {setting: value}))
    assert usual.numbers != other.numbers


def test_target_is_the_map_of_another_image() -> None:
    model = classifier()
    found = explained(model, methods=("gradient",), radius=1e-6)
    with evaluating(model):
        subject = Subject(ExplainConfig(methods=("gradient",)), Predictor(model), torch.zeros(1, 8, 8, 3))  # fmt: skip
        x = images()["obs"][:4].float() / 255
        for beta, name in ((None, ""), (1.0, ", softplus 1")):
            maps = subject.maps("gradient", x, subject.chosen(x), beta)
            wanted = correlation(maps, maps[[2, 3, 0, 1]]).tolist()
            assert found.columns[f"gradient: target before{name}"].tolist() == pytest.approx(wanted, abs=1e-5)  # fmt: skip
    # An image that hardly changes keeps its map.
    assert found.columns["gradient: original"] == pytest.approx(1, abs=0.01)


def test_accuracies_are_shares_of_right_answers() -> None:
    model, given = classifier(), images()
    with torch.no_grad(), evaluating(model):
        wrong = 1 - model.scores(given["obs"]).argmax(1)
        config = ExplainConfig(**QUICK | {"methods": ("gradient",), "softplus": (1_000.0,)})
        found = Explain(config).analyse([model], {"any": Examples({"obs": given["obs"], "label": wrong})})  # fmt: skip
    assert (found.numbers["accuracy"], found.numbers["accuracy with softplus 1000"]) == (0, 0)


def test_networks_without_a_rule_of_lrp_have_other_maps() -> None:
    config = ClassifierConfig(encoder="conv4:layers=1,width=8,norm=gn", cycle_updates=None)
    model = Classifier(config, {"obs": PICTURE, "label": Discrete(2)}, seed=0)
    with pytest.raises(UserError, match="lrp has no rule for group_norm, which the network uses; give --methods without lrp"):  # fmt: skip
        explained(model)
    others = ("guided-backpropagation", "pattern-attribution")
    assert "pattern-attribution: kept" in explained(model, methods=others).numbers


@pytest.mark.parametrize("steps", [0, 2])
def test_maps_that_are_not_finite_are_refused(steps: int) -> None:
    model = classifier()
    model.head.weight.data.fill_(torch.nan)
    with pytest.raises(UserError, match="the maps of gradient are not finite; give larger numbers"):
        explained(model, methods=("gradient",), steps=steps)


def test_observations_that_are_no_images_are_refused() -> None:
    kind = load_agent("ppo")
    learner = kind(kind.Config(), Spec(Box(-1, 1, (3,)), Discrete(2)), seed=0)
    with pytest.raises(UserError, match=r"explain needs observations that are images of bytes, but they are Box.*; give a run of a classifier or of an agent on images"):  # fmt: skip
        of_agent(learner)
    with pytest.raises(UserError, match="--examples is 11, but there are only 10 images; give at most 10"):  # fmt: skip
        explained(examples=11)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ()}, "methods is .*; give one or more methods, each once"),
        ({"examples": 1}, "examples is 1"), ({"betas": (0.0, 1.0)}, "betas is .*; give two numbers, each"),
        ({"softplus": (0.0,)}, "softplus is"), ({"radius": -1.0}, "radius is"), ({"steps": -1}, "steps is"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ExplainConfig(**settings)


def test_pictures_by_hand() -> None:
    grey = torch.full((2, 2, 1), 0.5)
    assert as_picture(grey).tolist() == np.full((2, 2, 3), 128).tolist()
    colours = torch.zeros(3, 4, 4)
    colours[0] = 1
    assert as_picture(colours)[0, 0].tolist() == [255, 0, 0]
    frames = torch.cat([torch.zeros(4, 4, 3), torch.ones(4, 4, 1)], 2)
    assert as_picture(frames).min() == 255
    # A third of the brightest value is red, two thirds are yellow.
    assert heat(np.array([[0.0, 1 / 3, 2 / 3, 1.0]]) * 9).reshape(-1, 3)[[0, 3]].tolist() == [[0, 0, 0], [255, 255, 255]]  # fmt: skip
    tile = np.zeros((120, 120, 3), np.uint8)
    drawn = sheet(["a"], [[tile, tile], [None, tile]], ["one", "two"])
    assert drawn.shape == (14 + 2 * 124 - 4, 2 * 124 - 4, 3)
    assert drawn[14:134, :120].max() == 0
    assert drawn[14 + 124 :, 124:].max() == 0
    assert drawn[20, 122].tolist() == [255, 255, 255]


def test_answers_with_softplus_are_of_images_from_0_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    seen: list[torch.Tensor] = []
    answers = Subject.answers_with_softplus

    def kept(subject: Subject, x: torch.Tensor, truth: torch.Tensor | None) -> dict[str, float]:
        seen.append(x)
        with Smooth(2.0):
            wanted = model.scores(255 * x).softmax(1)
        torch.testing.assert_close(subject.answers(x, 2.0), wanted)
        assert not torch.allclose(subject.answers(x), wanted)
        return answers(subject, x, truth)

    monkeypatch.setattr(Subject, "answers_with_softplus", kept)
    explained(model, methods=("gradient",), steps=1)
    torch.testing.assert_close(seen[0], images()["obs"][:6].float() / 255)
