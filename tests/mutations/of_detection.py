"""Faults of detection and of sources of objects."""

from tests.mutations.mutation import Mutation, of_file

MUTATIONS: list[Mutation] = [
    *of_file(
        "backbones/models/ssd.py", "backbones/test_ssd.py",
        ("only equal sides", "scale * math.sqrt(r), scale / math.sqrt(r)", "scale, scale"),
        ("the extra box not between two scales", "math.sqrt(scale * after)", "math.sqrt(scale * scale)"),
        ("coarse scales on fine maps", "parts = torch.tensor_split(sides,", "parts = torch.tensor_split(sides.flip(0),"),
        ("outputs by box before cell", ".permute(0, 2, 3, 1).reshape(", ".reshape("),
        ("the finest maps", "sorted(maps)[-config.maps :]", "sorted(maps)[: config.maps]"),
        ("no forced match", "threshold, forced=True", "threshold, forced=False"),
        ("padding is matched", "match(overlaps, classes > 0,", "match(overlaps, classes >= 0,"),
        ("boxes of other objects", "box = boxes.gather(1, own[..., None]", "box = boxes.gather(1, (own * 0)[..., None]"),
        ("logarithms of empty boxes", "box = torch.where(matched[..., None], box, defaults)", "pass"),
        ("matches among the negatives", "return (rank < ratio * matched.sum(1, keepdim=True)) & ~matched", "return rank < ratio * matched.sum(1, keepdim=True)"),
        ("the easiest negatives", "masked_fill(matched, -torch.inf).argsort(dim=1, descending=True", "masked_fill(matched, torch.inf).argsort(dim=1, descending=False"),
        ("negatives of the whole batch", "rank < ratio * matched.sum(1, keepdim=True)", "rank < ratio * matched.sum() / len(matched)"),
        ("boxes of negatives in the loss", "localisation=(distance * matched).sum(1)", "localisation=distance.sum(1)"),
        ("divided by the images", "found.localisation.sum() / found.matches.sum().clamp(min=1)", "found.localisation.mean()"),
        ("mining always", 'if mining == "hard":\n', "if True:\n"),
        ("boxes in other units", "boxes = decode(codes, self.head.defaults, CODE_SCALES)", "boxes = decode(codes, self.head.defaults, (1.0, 1.0))"),
        ("no object is a class", "boxes, scores[..., 1:], config.least_score", "boxes, scores, config.least_score"),
        ("duplicates across classes", "suppress(box, best, most_overlap, label)", "suppress(box, best, most_overlap)"),
        ("all detections, whatever their scores", "best.masked_fill(best <= least, -torch.inf)", "best"),
        ("boxes beyond the image", "return clip(boxes, self.objects.size), logits.softmax(-1)", "return boxes, logits.softmax(-1)"),
    ),
    *of_file(
        "backbones/models/_detection.py", "backbones/test_detection.py backbones/test_ssd.py",
        ("rows and columns swapped", "shape[1:] if shape[0] in (1, 3, 4) else shape[:2]", "shape[:0:-1] if shape[0] in (1, 3, 4) else shape[1::-1]"),
        ("corners instead of sides", "sides = edges[:, 2:] - edges[:, :2]", "sides = edges[:, 2:]"),
        ("small objects are medium", "LIMITS[0] ** 2) - 0.5", "LIMITS[0] ** 2) + 0.5"),
        ("classes that do not occur", "if there[k, 0]}", "}"),
        ("a stricter overlap", "OVERLAP = 0.5", "OVERLAP = 0.75"),
    ),
    *of_file(
        "rlbench/connected.py", "backbones/test_blobs.py",
        ("corners do not touch", "F.max_pool2d(number[:, None], 3, stride=1, padding=1)", "F.max_pool2d(number[:, None], (3, 1), stride=1, padding=(1, 0))"),
    ),
    *of_file(
        "backbones/models/blobs.py", "backbones/test_blobs.py",
        ("the background is a blob", "pixels[:, 0] = 0", "pass"),
        ("the background in boxes", "self.counts[:, 1:].sum(1) > self.counts[:, 0]", "self.counts[:, 1:].sum(1) >= 0"),
        ("all colours alike", "evidence = masks.float() @ likelihood[colours.flatten(1)]", "evidence = masks.float() @ (0 * likelihood[colours.flatten(1)])"),
    ),
    *of_file(
        "envs/examples/_objects.py", "envs/test_objects.py",
        ("the last pixel is outside", "line.shape[1] - line[:, ::-1].argmax(axis=1)", "line.shape[1] - 1 - line[:, ::-1].argmax(axis=1)"),
        ("hidden objects stay", 'order = np.argsort(~there, axis=1, kind="stable")', "order = np.argsort(0 * there, axis=1)"),
        ("numbers of hidden objects stay", "np.where(there, there.cumsum(axis=1), 0)", "np.arange(1, there.shape[1] + 1)"),
    ),
    *of_file(
        "envs/examples/objects_minigrid.py", "envs/test_objects.py",
        ("at multiples of the tile", "begin = rng.integers(side, size=(count, 2))", "begin = np.zeros((count, 2), np.int64)"),
        ("objects that are cut off", "(place >= first[:, axis, None]) & (place < last[:, axis, None])", "(place >= 0) & (place <= last[:, axis, None])"),
        ("one size", "side in enumerate(self._sizes)", "side in enumerate(self._sizes[-1:] * len(self._sizes))"),
        ("keys called balls", '"goal", "key", "ball", "box")])', '"goal", "ball", "key", "box")])'),
        ("pixels of the floor belong to objects", "np.where(kinds[tile, y, x] > 0, numbers[every, row, column], 0)", "numbers[every, row, column]"),
        ("splits alike", "self._name, split, side", "self._name, side"),
    ),
    *of_file(
        "envs/examples/objects_procgen.py", "envs/test_objects.py",
        ("walls are objects", "{AGENT: table.scenery[AGENT], **table.objects}", "{**table.scenery, **table.objects}"),
        ("parts of several colours", "mine = colours == colour", "mine = np.isin(colours, those)"),
        ("transparent pixels belong to objects", "parts[~seen] = 0", "pass"),
        ("the smallest objects", "np.argsort(-pixels[real]", "np.argsort(pixels[real]"),
    ),
    *of_file(
        "benchmarks/papers/ssd.py", "benchmarks/test_claims_of_detection.py",
        ("any step size", 'STEP_SIZES, TASK, "map")', 'STEP_SIZES[:1], TASK, "map")'),
        ("one map does not matter", 'full["map_small"] >= one["map_small"] + 15', "True"),
        ("mining does not matter", 'full["map"] >= alike["map"] + 5', "True"),
    ),
    *of_file(
        "benchmarks/tables/pictures.py", "benchmarks/test_model_pictures.py",
        ("boxes in pixels of the frame", "np.rint(boxes * ENLARGED)", "np.rint(boxes)"),
    ),
]  # fmt: skip
