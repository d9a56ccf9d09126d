"""Networks as Flax Linen parameters and pure functions, and their holomorphic parts."""

from hepcli.networks._activations import ACTIVATIONS, dsilu, logistic, sigmoid
from hepcli.networks._dense import DenseNetwork, rotate_feedback, weight_angle_deg
from hepcli.networks._losses import LOSSES, Loss

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "DenseNetwork",
    "Loss",
    "dsilu",
    "logistic",
    "rotate_feedback",
    "sigmoid",
    "weight_angle_deg",
]
