"""Networks as Flax Linen parameters and pure functions, and their holomorphic parts."""

from hepcli.networks._activations import ACTIVATIONS, dsilu, logistic, sigmoid
from hepcli.networks._conv import ConvNetwork, DenseLayer
from hepcli.networks._convolution import KERNELS, ConvLayer
from hepcli.networks._dense import DenseNetwork
from hepcli.networks._feedback import copy_gradients, rotate_feedback, weight_angle_deg
from hepcli.networks._graph import GraphNetwork
from hepcli.networks._losses import LOSSES, Loss

__all__ = [
    "ACTIVATIONS",
    "KERNELS",
    "LOSSES",
    "ConvLayer",
    "ConvNetwork",
    "DenseLayer",
    "DenseNetwork",
    "GraphNetwork",
    "Loss",
    "copy_gradients",
    "dsilu",
    "logistic",
    "rotate_feedback",
    "sigmoid",
    "weight_angle_deg",
]
