"""Papers by name: the runs behind a paper's table, its own figures, its claims; imported on first use."""

from typing import TYPE_CHECKING

from rlbench.errors import UserError
from rlbench.names import NameTable

if TYPE_CHECKING:
    from rlbench.benchmarks.tables.paper import Paper

PAPERS = NameTable(
    "paper",
    __name__,
    {
        "adversarial-examples": (
            "adversarial_examples:PAPER",
            "small changes to inputs that change an answer or make an agent fail",
        ),
        "batch-norm": ("batch_norm:PAPER", "batch normalisation of a network of sigmoids"),
        "bert": ("bert:PAPER", "pre-training on sentences with hidden words"),
        "big-bird": ("big_bird:PAPER", "sparse attention to long sequences"),
        "bear": ("bear:PAPER", "BEAR on mixtures of good and bad data"),
        "born-again": ("born_again:PAPER", "students that learn from networks like themselves"),
        "crr": ("crr:PAPER", "CRR against cloning and unweighted critics"),
        "d4rl": ("d4rl:PAPER", "all offline agents on D4RL's locomotion tasks"),
        "decision-transformer": (
            "decision_transformer:PAPER",
            "return-conditioned cloning, compared with cloning and IQL",
        ),
        "deconstructing-tickets": (
            "deconstructing_tickets:PAPER",
            "which weights a lottery ticket keeps, and what about them matters",
        ),
        "dqn": ("dqn:PAPER", "deep Q-networks, compared with two other libraries"),
        "everybody-dance-now": (
            "everybody_dance_now:PAPER",
            "a robot drawn in the poses of another one, from stick figures",
        ),
        "facenet": ("facenet:PAPER", "triplets for verifying identities that were never seen"),
        "fast-weights": (
            "fast_weights:PAPER",
            "retrieval by a matrix that is written while it runs",
        ),
        "fedavg": ("fedavg:PAPER", "rounds of communication with more and less local work"),
        "fc-densenet": ("fc_densenet:PAPER", "segmentation with few parameters"),
        "fcn": ("fcn:PAPER", "segmentation from maps of several strides"),
        "gated-pixelcnn": (
            "gated_pixelcnn:PAPER",
            "images pixel by pixel, samples of a class, and pseudo-counts",
        ),
        "ibac-sni": ("ibac_sni:PAPER", "the information bottleneck and selective noise injection"),
        "identity-mappings": (
            "identity_mappings:PAPER",
            "shortcuts and activations of residual units",
        ),
        "lpg": (
            "lpg:PAPER",
            "a learned update rule compared with A2C, and what its predictions encode",
        ),
        "manipulated-explanations": (
            "manipulated_explanations:PAPER",
            "maps that explain an answer, moved to a target by small changes to the picture",
        ),
        "mann": ("mann:PAPER", "one-shot learning with a table that is read by content"),
        "mixmatch": ("mixmatch:PAPER", "20 labelled and 1,400 unlabelled images"),
        "mnasnet": ("mnasnet:PAPER", "a search for accurate and fast networks"),
        "mobilenet-v2": (
            "mobilenet_v2:PAPER",
            "linear bottlenecks and their shortcuts; a ReLU in few dimensions",
        ),
        "nerfies": ("nerfies:PAPER", "a moving robot from new angles, by a field of motions"),
        "policy-attacks": (
            "policy_attacks:PAPER",
            "small changes to the pixels that an agent reads",
        ),
        "policy-encoders": (
            "policy_encoders:PAPER",
            "PPO on CoinRun with encoders of several papers",
        ),
        "policy-keypoints": (
            "policy_keypoints:PAPER",
            "behaviour cloning on HalfCheetah from pictures, read by key points",
        ),
        "policy-imitation": (
            "policy_imitation:PAPER",
            "PPO that imitates a demonstration from another camera",
        ),
        "policy-exploration": (
            "policy_exploration:PAPER",
            "PPO on MultiRoom with pseudo-counts, with novelty and without a bonus",
        ),
        "policy-memories": (
            "policy_memories:PAPER",
            "recurrent PPO with memories of several papers",
        ),
        "policy-missions": (
            "policy_missions:PAPER",
            "PPO on a level of BabyAI with encoders of its mission",
        ),
        "policy-objects": (
            "policy_objects:PAPER",
            "PPO on StarPilot with detected objects as a set and as a graph",
        ),
        "policy-pretraining": (
            "policy_pretraining:PAPER",
            "PPO with encoders that learned to recognise pairs of observations",
        ),
        "policy-students": (
            "policy_students:PAPER",
            "policies that learn from the recorded steps of others",
        ),
        "policy-success": (
            "policy_success:PAPER",
            "PPO rewarded by a classifier of success with few labels",
        ),
        "policy-tickets": (
            "policy_tickets:PAPER",
            "lottery tickets of a policy in another level and in cloning",
        ),
        "pr-vipe": (
            "pr_vipe:PAPER",
            "retrieval of poses across views by a probabilistic embedding",
        ),
        "policy-style": (
            "policy_style:PAPER",
            "PPO on CoinRun with frames that a style network redraws",
        ),
        "prototypical": ("prototypical:PAPER", "few-shot learning by the means of embeddings"),
        "recurrent-batch-norm": (
            "recurrent_batch_norm:PAPER",
            "an LSTM with batch normalisation at each time step",
        ),
        "resnet": ("resnet:PAPER", "residual against plain networks as depth grows"),
        "rfm": (
            "rfm:PAPER",
            "relational forward models: predictions, edges, value of company, agents with one on board",
        ),
        "fpn": ("fpn:PAPER", "region proposals on a pyramid of maps"),
        "mask-rcnn": ("mask_rcnn:PAPER", "boxes, classes and masks of objects; RoIAlign"),
        "scene-debiasing": (
            "scene_debiasing:PAPER",
            "actions whose scenes mislead: an adversary and masked actors",
        ),
        "style-transfer": (
            "style_transfer:PAPER",
            "a photograph in the style of textures, with an untrained network",
        ),
        "smooth-adversarial": (
            "smooth_adversarial:PAPER",
            "certified radii after adversarial training under noise",
        ),
        "spp": ("spp:PAPER", "spatial pyramid pooling: one network for images of all sizes"),
        "ssd": ("ssd:PAPER", "object detection from maps of several strides"),
        "taskonomy": (
            "taskonomy:PAPER",
            "how well objectives of pre-training transfer to each other",
        ),
        "feature-decodability": (
            "feature_decodability:PAPER",
            "which features of pictures a network knows before and after training",
        ),
        "tompson": (
            "tompson:PAPER",
            "pose by a ConvNet and a spatial model that are trained together",
        ),
        "vq-vae-2": ("vq_vae_2:PAPER", "images as two grids of codes, compared with one"),
        "ticket-transfer": (
            "ticket_transfer:PAPER",
            "lottery tickets on other data and with other optimisers",
        ),
        "wasserstein-dependency": (
            "wasserstein_dependency:PAPER",
            "contrastive learning when observations have much in common",
        ),
    },
    group="rlbench.papers",
)


def load_paper(name: str) -> "Paper":
    """The paper of a name, or of `package.module:PAPER`.

    Raises:
        UserError: There is no such paper.
    """
    from rlbench.benchmarks.tables.paper import Paper

    found = PAPERS.load(name)
    if not isinstance(found, Paper):
        raise UserError(
            f"{name} is a {type(found).__name__}; expected a Paper of rlbench.benchmarks.tables.paper"
        )
    return found
