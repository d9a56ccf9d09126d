"""Networks as Flax Linen parameters and pure functions, and their holomorphic parts."""

from hepcli.networks._activations import dsilu, logistic, sigmoid
from hepcli.networks._connection import Connection, LayerKind
from hepcli.networks._feedback import copy_gradients, rotate_feedback, weight_angle_deg
from hepcli.networks._losses import Loss
from hepcli.networks._network import Network, build_network
from hepcli.networks._own_parts import derives_its_value, drives_linearly, leads_back, looks_holomorphic

__all__ = [
    "Connection",
    "LayerKind",
    "Loss",
    "Network",
    "build_network",
    "copy_gradients",
    "derives_its_value",
    "drives_linearly",
    "dsilu",
    "leads_back",
    "logistic",
    "looks_holomorphic",
    "rotate_feedback",
    "sigmoid",
    "weight_angle_deg",
]
