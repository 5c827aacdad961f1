"""Faults of architectures: their notation, their search spaces and their networks."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "rlbench/architecture.py", "rlbench/test_architecture.py",
        ("channels far below the request", "if nearest >= 0.9 * channels", "if nearest >= 0.5 * channels"),
        ("always multiples of eight", "(DIVISOR, 4, 2, 1)", "(DIVISOR,)"),
        ("the first convolution keeps its filters", "first=first, blocks=blocks", "blocks=blocks"),
        ("every block is the first", "        channels = block.filters\n", ""),
        ("identities of later layers are dead", "self.layers > 1 or (", "("),
        ("identities over a stride are alive", "self.stride == 1 and channels == self.filters", "channels == self.filters"),
        ("identities over other channels are alive", "self.stride == 1 and channels == self.filters", "self.stride == 1"),
        ("unknown fields are ignored", "set(saved) != set(names)", "not set(saved) >= set(names)"),
        ("truth values are numbers", "type(count) is not int", "not isinstance(count, int)"),
        ("the stride is the number of layers", "int(layers), int(stride)", "int(stride), int(layers)"),
    ),
    *of_file(
        "envs/architectures/space.py", "envs/test_architecture_space.py",
        ("blocks without layers", "max(1, reference.layers + value)", "reference.layers + value"),
        ("multiples of eight in all spaces", "value * reference.filters, self.divisor)", "value * reference.filters)"),
        ("shared tokens are each block's", "None if field in self.shared else number", "number"),
        ("no preferred values", "label.values[i] != usual)\n            for", "i)\n            for"),
        ("dead choices are kept", "network = live(self._decode(chosen))", "network = self._decode(chosen)"),
        ("any architecture is in the space", "if self._decode(tokens) == architecture:", "if True:"),
        ("a sequence is its own neighbour", "            if value != here[place]\n", ""),
        ("negative tokens", "if not 0 <= token < count", "if not token < count"),
        ("everything is shared", "if field in self.searched)", "if True)"),
    ),
    *of_file(
        "backbones/layers/mnas.py", "backbones/test_mnas_layers.py",
        ("excitation counts the wide channels", "[SqueezeExcitation(width, squeezed)]", "[SqueezeExcitation(width, max(1, int(block.se * width)))]"),
        ("excitation without a gate", ".relu()).sigmoid()", ".relu())"),
        ("excitation of each pixel", "means = x.mean((2, 3), keepdim=True)", "means = x"),
        ("excitation without channels", "max(1, int(block.se * channels))", "int(block.se * channels)"),
        ("an active projection", "norm, activation=None)", "norm)"),
        ("identity over a stride", "stride == 1 and channels == out", "channels == out"),
        ("zeros count in the mean", "count_include_pad=False", "count_include_pad=True"),
        ("zeros before the channels", "(0, 0, 0, 0, 0, self.out - channels)", "(0, 0, 0, 0, self.out - channels, 0)"),
        ("depthwise kernels see all channels", "norm, stride, depthwise=True", "norm, stride, depthwise=False"),
    ),
    *of_file(
        "backbones/encoders/mnasnet.py", "backbones/test_mnasnet.py",
        ("every layer of a block halves", "block.stride if i == 0 else 1", "block.stride"),
        ("the linear layer is linear", "nn.LazyLinear(architecture.size), nn.ReLU()", "nn.LazyLinear(architecture.size)"),
        ("a last convolution for all", "if architecture.last:", "if True:"),
        ("the trial pass moves statistics", "    made.eval()", "    made.train()"),
        ("built for evaluation", "return made.train()", "return made"),
        ("the width is ignored", "scaled(architecture, width)", "architecture"),
    ),
    *of_file(
        "backbones/encoders/__init__.py", "backbones/test_mnasnet.py",
        ("options after the file are lost", ".options()}{others}", ".options()}"),
    ),
    *of_file(
        "benchmarks/training/runner.py", "backbones/test_mnasnet.py",
        ("a run keeps the file's name", "without_files(settings, config)", "settings, config"),
    ),
    *of_file(
        "benchmarks/tables/sweep.py", "benchmarks/test_sweep.py",
        ("a sweep keeps the file's name", "{**settings, **changed}", "{**settings}"),
    ),
    *of_file(
        "backbones/layers/stages.py", "backbones/test_mobilenet_v2.py backbones/test_mnasnet.py",
        ("strides do not multiply", "strides[-1] * stride", "stride"),
        ("a stage ends after a layer with a stride", "if stride > 1:", "if stride > 2:"),
    ),
]  # fmt: skip
