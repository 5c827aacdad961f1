"""Models: supervised learners over any encoder, by name; imported on first use."""

from rlbench.names import NameTable

MODELS = NameTable(
    "model",
    __name__,
    {
        "blobs": (
            "blobs:Blobs",
            "boxes around connected pixels of foreground colours, without gradients",
        ),
        "born-again": (
            "born_again:BornAgain",
            "a classifier in generations, each of which learns from the one before it",
        ),
        "classifier": ("classifier:Classifier", "any encoder with a linear head, by cross-entropy"),
        "dance": (
            "dance:Dance",
            "draws a robot in the poses of another one, from stick figures, by adversarial training",
        ),
        "contrastive": (
            "contrastive:Contrastive",
            "features that identify which observations belong together: CPC, or WPC with a Lipschitz constraint",
        ),
        "debiasing": (
            "debiasing:Debiasing",
            "a classifier whose features hide the scene, by an adversary and masked actors",
        ),
        "facenet": (
            "facenet:FaceNet",
            "an embedding in which observations of one class are near each other, by triplets",
        ),
        "fedavg": (
            "fedavg:FedAvg",
            "federated averaging: a classifier from clients that keep their examples",
        ),
        "language-model": (
            "language_model:LanguageModel",
            "pre-trains a transformer on sequences: hidden words as in BERT, or the next word",
        ),
        "mask-rcnn": (
            "mask_rcnn:MaskRCNN",
            "boxes, classes and masks of objects in two stages, from any encoder with maps",
        ),
        "mixmatch": (
            "mixmatch:MixMatch",
            "a classifier from few labelled and many unlabelled examples",
        ),
        "nearest": ("nearest:Nearest", "nearest neighbours within an episode, without learning"),
        "nerfies": (
            "nerfies:Nerfies",
            "a moving scene from pictures with known cameras: a radiance field and a field of motions",
        ),
        "nearest-frame": (
            "nearest_frame:NearestFrame",
            "copies the training frame with the most similar stick figure",
        ),
        "one-shot": ("one_shot:OneShot", "any memory learns new classes within an episode"),
        "pose-mrf": (
            "pose_mrf:PoseMRF",
            "key points of robots: a ConvNet's heat maps and messages between them, trained together",
        ),
        "pose-nearest": (
            "pose_nearest:PoseNearest",
            "retrieval of poses by the distance of their key points, without learning",
        ),
        "pr-vipe": (
            "pr_vipe:PrVIPE",
            "an embedding of key points in which views of the same pose are near each other",
        ),
        "pixelcnn": (
            "pixelcnn:PixelCNN",
            "the probability of an image, pixel by pixel, and samples: gated or plain PixelCNN",
        ),
        "pretext": (
            "pretext:Pretext",
            "pre-trains an encoder by one of ten objectives: autoencoding, depth, actions, ...",
        ),
        "proposals": (
            "proposals:RegionProposals",
            "boxes that may hold an object of any class, the first stage of mask-rcnn",
        ),
        "prototypical": (
            "prototypical:Prototypical",
            "any encoder recognises new classes by the mean of a few examples",
        ),
        "rfm-predictor": (
            "rfm_predictor:RFMPredictor",
            "relational forward model, ablation or baseline: predicts the next actions of all agents",
        ),
        "rfm-returns": ("rfm_returns:RFMReturns", "the same, but predicts their returns"),
        "segmenter": (
            "segmenter:Segmenter",
            "the class of every pixel: FCN's heads over any encoder with maps, FC-DenseNet, U-Net",
        ),
        "sequence-classifier": (
            "sequence_classifier:SequenceClassifier",
            "a transformer or any memory over sequences, from scratch or pre-trained",
        ),
        "smooth-adversarial": (
            "smooth_adversarial:SmoothAdversarial",
            "a classifier whose answers under noise are certified, by adversarial training",
        ),
        "ssd": (
            "ssd:SSD",
            "boxes and classes of objects, from any encoder with maps of several strides",
        ),
        "style-network": (
            "style_network:StyleNetwork",
            "redraws pictures in the styles of others, in one pass, for style-ppo",
        ),
        "supermask": (
            "supermask:Supermask",
            "a classifier with random weights, which learns which of them to leave out",
        ),
        "tickets": (
            "tickets:Tickets",
            "lottery tickets: a classifier that is trained, pruned and restarted again and again",
        ),
        "vib": ("vib:VIB", "classifier with an information bottleneck, weight decay or dropout"),
        "vq-vae": (
            "vq_vae:VQVAE",
            "images as one or two grids of codes from a codebook, and back",
        ),
    },
    group="rlbench.models",
)
