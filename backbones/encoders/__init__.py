"""Encoders: observations to features, by name.

    encoder = make_encoder("impala", (3, 64, 64))
    features = encoder(obs)                # [B, *obs_shape] to [B, encoder.size]

A name may be followed by options: `resnet:units=1,width=8`. Images are passed as the environment gives them, with
raw values of any dtype and the channels first or last. Importing this loads the standard library only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlbench.architecture import MNASNET_A1, MNASNET_B1, MNASNET_SMALL, read_architecture
from rlbench.backbones.options import as_option, inner_name, read_options
from rlbench.errors import UserError
from rlbench.names import NameTable

if TYPE_CHECKING:
    from gymnasium import Space

    from rlbench.backbones.encoders._base import (
        Encoded as Encoded,
        Encoder as Encoder,
        Kind,
        Observations as Observations,
        batch_normalised as batch_normalised,
    )

ENCODERS = NameTable(
    "encoder",
    __name__,
    {
        "flatten": ("flatten:FLATTEN", "raw values as one vector"),
        "grid": ("grid:GRID", "three small convolutions over the grids of MiniGrid or MinAtar"),
        "one-hot-grid": ("grid:ONE_HOT_GRID", "the same, over one-hot cells"),
        "conv4": (
            "conv4:CONV4",
            "convolutions with max-pooling, as in few-shot learning; options width, layers, norm",
        ),
        "nature": ("nature:NATURE", "the convolutions of the deep Q-network"),
        "impala": ("impala:IMPALA", "IMPALA's residual network"),
        "resnet": ("resnet:RESNET", "residual network; options units, width, block, norm, ..."),
        "mlp": (
            "mlp:MLP_KIND",
            "fully connected layers over all values; option units, as in 300-100",
        ),
        "sigmoid-mlp": (
            "sigmoid_mlp:SIGMOID_MLP",
            "sigmoid layers, with or without batch normalisation; options units, layers, norm",
        ),
        "transformer": (
            "transformer:TRANSFORMER",
            "a transformer over sequences of tokens; options width, layers, heads, attention, ...",
        ),
        "unet": (
            "unet:UNET",
            "U-Net: downsamples and upsamples again; options width, pools, norm, head",
        ),
        "vgg": (
            "vgg:VGG_KIND",
            "a small VGG network, for style transfer; options width, blocks, pool, norm",
        ),
        "resnet20": ("resnet:RESNET", "the residual network with 20 layers"),
        "resnet56": ("resnet:RESNET", "the residual network with 56 layers"),
        "mobilenet-v2": (
            "mobilenet_v2:MOBILENET_V2",
            "inverted residual units; options width, stem, norm, head, ...",
        ),
        "mnasnet-a1": (
            "mnasnet:MNASNET",
            "MnasNet-A1, found for accuracy and latency; options width, stem, norm, head, ...",
        ),
        "mnasnet-b1": ("mnasnet:MNASNET", "MnasNet-B1, the same without squeeze-and-excitation"),
        "mnasnet-small": ("mnasnet:MNASNET", "the small MnasNet"),
        "mnas": ("mnasnet:MNASNET", "a network of MnasNet's search space: mnas:FILE.json"),
        "fc-densenet": (
            "fc_densenet:FC_DENSENET",
            "dense blocks that downsample and upsample again; options growth, layers, pools, ...",
        ),
        "fc-densenet56": ("fc_densenet:FC_DENSENET", "the dense network with 56 layers"),
        "fc-densenet67": ("fc_densenet:FC_DENSENET", "the dense network with 67 layers"),
        "fc-densenet103": ("fc_densenet:FC_DENSENET", "the dense network with 103 layers"),
        "fpn": (
            "fpn:FPN_KIND",
            "a pyramid over the maps of another encoder; options of, width, paths, only",
        ),
        "objects": (
            "objects:OBJECTS",
            "objects that a trained SSD detects, as a set: objects:RUN",
        ),
        "keypoints": (
            "keypoints:KEYPOINTS",
            "positions of the key points that a trained pose-mrf finds: keypoints:RUN",
        ),
        "pose": (
            "pose:POSE",
            "a Gaussian embedding of key points in the plane; options size, width, blocks, dropout, torso",
        ),
        "codes": (
            "codes:CODES",
            "codes of a trained VQ-VAE, with learned vectors: codes:RUN",
        ),
        "classes": (
            "classes:CLASSES",
            "probabilities of the classes of a trained classifier: classes:RUN",
        ),
        "bag-of-words": ("tokens:BAG_OF_WORDS", "texts: the mean of word vectors; option width"),
        "token-gru": ("tokens:TOKEN_GRU", "texts: gated recurrent units over tokens; option width"),
        "parts": (
            "parts:PARTS",
            "Dict observations, such as an image and a text; options image, text, join",
        ),
    },
    group="rlbench.encoders",
)
FITTING = ("padding", "side", "zeros")
"""Options of all image encoders; see `Encoder`."""
FROM_RUNS = ("objects", "keypoints", "codes", "classes")
"""Encoders that read observations through the trained network of a run: `objects:RUN`; see `FromRun`."""
PRESETS = {
    "resnet20": "units=3",
    "resnet56": "units=9",
    "fc-densenet56": "growth=12,layers=4,pools=5,first=48",
    "fc-densenet67": "growth=16,layers=5,pools=5,first=48",
    "fc-densenet103": "growth=16,layers=4-5-7-10-12-15-12-10-7-5-4,pools=5,first=48",
    "mnasnet-a1": replace(MNASNET_A1, stem=1).options(),
    "mnasnet-b1": replace(MNASNET_B1, stem=1).options(),
    "mnasnet-small": replace(MNASNET_SMALL, stem=1).options(),
}
"""Options that a name stands for."""


def make_encoder(name: str, observations: "tuple[int, ...] | Space[Any]") -> "Encoder":
    """The encoder of a name.

    Args:
        name: A key of `ENCODERS`, with options after a colon if it has any, as in
            `resnet:units=1,norm=none`.
        observations: Shape or space of one observation; an image has its channels (1, 3 or 4) first or last, two frames have 6 channels last, and a
            grid has any number of channels last.

    Raises:
        UserError: There is no such encoder or option, or it does not take observations of this shape.
    """
    from rlbench.backbones.encoders._base import Encoder
    from rlbench.backbones.spaces import CHANNELS, PAIR, suited_encoder

    kind, options = kind_of(name)
    _refuse_other_spaces(name, kind, observations)
    obs_shape: tuple[int, ...] = (
        observations if isinstance(observations, tuple) else observations.shape or ()
    )
    if kind.takes in ("tokens", "parts"):
        return Encoder(kind, kind.layers(observations, **options), obs_shape, channels_last=False)
    fitting = {option: options.pop(option) for option in FITTING if option in options}
    if kind.takes == "anything":
        with _refusing_too_large(name, obs_shape):
            given: Any = obs_shape if kind.sized else 0
            return Encoder(kind, kind.layers(given, **options), obs_shape, False, **fitting)
    last = kind.takes == "grids" or obs_shape[0] not in CHANNELS
    channels = obs_shape[-1] if last else obs_shape[0]
    pair = kind.takes == "images" and last and channels == PAIR
    accepted = pair or channels in CHANNELS
    if kind.any_channels:
        accepted |= (
            obs_shape[0] not in CHANNELS
        )  # Otherwise it is an image with its channels first.
    if len(obs_shape) != 3 or not accepted:
        hint = ", or add an axis of length 1 at the end" if len(obs_shape) == 2 else ""
        taken = kind.takes if kind.any_channels else f"{kind.takes} with 1, 3 or 4 channels"
        taken += ", channels last" if kind.takes == "grids" else ", or 6, last, for two frames"
        raise UserError(
            f"observations have the shape {obs_shape}, but the encoder {name} takes {taken}; "
            f"give the encoder {suited_encoder(obs_shape)} or an environment with {kind.takes}{hint}"
        )
    given = channels
    if kind.sized:
        if fitting.get("padding", "keep") != "keep":
            raise UserError(
                f"the encoder {name} reads images of one size as they are; leave padding out"
            )
        given = (channels, *(obs_shape[:2] if last else obs_shape[1:]))
    try:
        with _refusing_too_large(name, obs_shape):
            return Encoder(kind, kind.layers(given, **options), obs_shape, last, **fitting)
    except UserError:
        raise
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"observations have the shape {obs_shape}, too small for the encoder {name}; give another encoder, such as flatten, or an environment with larger "
            "observations"
        ) from error


def _refuse_other_spaces(
    name: str, kind: "Kind", observations: "tuple[int, ...] | Space[Any]"
) -> None:
    """Raises a UserError if an encoder of tokens or parts is given anything else, or another encoder is given tokens or parts."""
    from rlbench.packed import Packed
    from rlbench.sequences import TokenSequence

    found = {TokenSequence: "tokens", Packed: "parts"}.get(type(observations), "")
    inner = as_option(name)
    if kind.takes in ("tokens", "parts") and kind.takes != found:
        what = "sequences of tokens" if kind.takes == "tokens" else "Dict observations"
        given, other = str(observations), "another --encoder"
        if isinstance(observations, Packed):
            given, other = (
                f"the parts {', '.join(observations.parts)}",
                f"--encoder parts:text={inner}",
            )
        raise UserError(
            f"the encoder {name} takes {what}, but the observations are {given}; give {other}"
        )
    if found == "tokens" and kind.takes != found:
        raise UserError(
            f"the observations are sequences of tokens, which the encoder {name} does not read; give transformer, "
            "token-gru or bag-of-words"
        )
    if isinstance(observations, Packed) and kind.takes != found and not observations.vectors:
        raise UserError(
            f"the observations have the parts {', '.join(observations.parts)}, but the encoder {name} takes a single "
            f"array; give --encoder parts:image={inner}"
            + (
                " and, for the weights of a run, --pretrained RUN"
                if name.partition(":")[0] in FROM_RUNS
                else ""
            )
        )


@contextmanager
def _refusing_too_large(name: str, obs_shape: tuple[int, ...]) -> Iterator[None]:
    """Raises a UserError if layers of the given sizes, or their maps, cannot be allocated."""
    try:
        yield
    except (RuntimeError, TypeError, OverflowError) as error:
        # PyTorch has no exception of its own for a CPU's memory, nor for sizes beyond 64 bits.
        if not any(word in str(error).lower() for word in ("can't allocate", "overflow")):
            raise
        raise UserError(
            f"the encoder {name} is too large for the memory, with observations of shape {obs_shape}; give smaller "
            "numbers in its options"
        ) from error


def acting_encoder(name: str, space: "Space[Any]", *, frozen: bool = False) -> "Encoder":
    """The encoder of a name for an agent; see `make_encoder`.

    Batch normalisation uses its running statistics, because an agent acts on single observations. The weights
    of a frozen encoder are not trained.
    """
    from rlbench.backbones.encoders._base import freeze, use_running_statistics

    made = make_encoder(name, space)
    use_running_statistics(made)
    if frozen:
        freeze(made)
    return made


def observations_of(
    space: "Space[Any]", encoder: str = "flatten", *, frozen: bool = False
) -> "Observations":
    """The input of an agent's network: the length of vectors, or a new encoder for other observations.

    Each network of an agent has its own encoder, so call this once for each.

    Args:
        space: Space of one observation.
        encoder: Its name; `flatten` leaves vectors as they are.
        frozen: Whether the encoder's weights are frozen.

    Raises:
        UserError: There is no such encoder, or it does not take such observations.
    """
    from rlbench.backbones.spaces import is_box, vector_size

    shape = tuple(space.shape or ())
    if (encoder == "flatten" and len(shape) == 1) or not is_box(space):
        return vector_size(space)
    return acting_encoder(encoder, space, frozen=frozen)


def spelled_out(name: str) -> str:
    """The name of an encoder that reads no file: `mnas:FILE.json` becomes `mnas` with the architecture as options.

    A run keeps this name, so that it does not need the file.

    Raises:
        UserError: The file cannot be read, or holds no architecture.
    """
    base, colon, given = name.partition(":")
    # The name of the file may have commas.
    file, ending, others = given.rpartition(".json")
    if base == "mnas" and ending and others[:1] in ("", ","):
        return f"{base}:{read_architecture(Path(file + ending)).options()}{others}"
    return base + colon + ",".join(map(_option_spelled_out, given.split(",")))


def _option_spelled_out(word: str) -> str:
    """An option such as `of=mnas/FILE.json`, the name of an encoder, without its file; every other one as it is."""
    option, equals, value = word.partition("=")
    if value.partition("/")[0] not in ENCODERS:
        return word
    return option + equals + as_option(spelled_out(inner_name(value)))


def kind_of(name: str) -> "tuple[Kind, dict[str, Any]]":
    """The meaning of an encoder's name: its kind, and the options of its layers.

    >>> kind_of("resnet20:width=8")[1]
    {'units': 3, 'width': 8}

    Raises:
        UserError: There is no such encoder or option.
    """
    base, _, given = spelled_out(name).partition(":")
    if base not in ENCODERS:
        close = get_close_matches(base, ENCODERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"give one of {', '.join(ENCODERS)}"
        raise UserError(f"there is no encoder {base!r}; {hint}")
    kind: Kind = ENCODERS.load(base)
    makers: list[Callable[..., Any]] = [kind.layers]
    if kind.takes == "images":
        from rlbench.backbones.encoders._base import Encoder

        makers.append(Encoder.__init__)
    elif kind.takes == "grids" or kind.sized:
        from rlbench.backbones.encoders._base import weight_options

        makers.append(weight_options)
    lists = [words for words in (PRESETS.get(base, ""), given) if words]
    words = [word for words in lists for word in words.split(",")]
    if base in FROM_RUNS and not all("=" in word for word in words):
        raise UserError(
            f"{name} contains something that is not an option, such as the name of a run; inside another encoder, or in a setting other than encoder or tokens, "
            f"give {base} the options of its network, and name the run with --pretrained RUN"
        )
    return kind, read_options("encoder", base, words, *makers)


def __getattr__(name: str) -> Any:
    """Attributes that need PyTorch, loaded on first use."""
    if name in ("Encoded", "Encoder", "Observations", "batch_normalised"):
        from rlbench.backbones.encoders import _base

        return getattr(_base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
