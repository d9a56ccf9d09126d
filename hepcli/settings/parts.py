"""Every replaceable part by name, and where it is: a new one is one file and one line here.

Parts are loaded when they are first used, so that settings can be checked without JAX.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

Option = bool | int | float | str
"""A setting of a component of a user's own."""


class Parts(MutableMapping[str, Any]):
    """Parts of one kind by name; what type they are of is said where they are used.

    Args:
        kind: what they are, in words, such as `solver`.
        places: name -> `module:attribute` of those that come with hep.
        built_in: name -> part, of those that come with hep and need no loading.
    """

    def __init__(
        self, kind: str, places: Mapping[str, str] | None = None, built_in: Mapping[str, Any] | None = None
    ) -> None:
        self.kind = kind
        self._places = dict(places or {})
        self._loaded: dict[str, Any] = dict(built_in or {})
        self._names = dict.fromkeys([*self._places, *self._loaded])
        self._own: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            module, _, attribute = self._places[name].partition(":")
            self._loaded[name] = getattr(import_module(module), attribute)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is one, which loads nothing."""
        return name in self._names

    def __setitem__(self, name: str, part: Any) -> None:
        if name not in self._names:
            self._own.add(name)
        self._names[name] = None
        self._loaded[name] = part

    def __delitem__(self, name: str) -> None:
        del self._names[name]
        self._own.discard(name)
        self._places.pop(name, None)
        self._loaded.pop(name, None)

    def is_own(self, name: str) -> bool:
        """Whether a part is a user's, not one that comes with hep."""
        return name in self._own

    def options_of(self, name: str) -> Mapping[str, Option]:
        """The settings that a user's part was registered with, and their defaults; those of hep have none."""
        options: Mapping[str, Option] = getattr(self[name], "options", {}) if self.is_own(name) else {}
        return options

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


ESTIMATORS = Parts(
    "estimator",
    {
        "hep": "hepcli.engine._estimators.hep:HEP",
        "hep_exact": "hepcli.engine._estimators.hep_exact:HEP_EXACT",
        "online_hep": "hepcli.engine._estimators.online_hep:ONLINE_HEP",
        "rbp": "hepcli.engine._estimators.rbp:RBP",
        "neumann_rbp": "hepcli.engine._estimators.rbp:NEUMANN_RBP",
        "bptt": "hepcli.engine._estimators.bptt:BPTT",
        "asymep": "hepcli.engine._estimators.asymep:ASYMEP",
        "asymep_exact": "hepcli.engine._estimators.asymep:ASYMEP_EXACT",
        "dyadic_ep": "hepcli.engine._estimators.dyadic_ep:DYADIC_EP",
        "contrastive_ep": "hepcli.engine._estimators.contrastive:CONTRASTIVE_EP",
        "contrastive_hebbian": "hepcli.engine._estimators.contrastive:CONTRASTIVE_HEBBIAN",
        "coupled_learning": "hepcli.engine._estimators.contrastive:COUPLED_LEARNING",
        "dual_propagation": "hepcli.engine._estimators.dual_propagation:DUAL_PROPAGATION",
        "predictive_coding": "hepcli.engine._estimators.predictive_coding:PREDICTIVE_CODING",
        "feedforward": "hepcli.engine._estimators.feedforward:FEEDFORWARD",
    },
)
SOLVERS = Parts(
    "solver",
    {
        "synchronous": "hepcli.engine._solvers.grouped:synchronous",
        "alternating": "hepcli.engine._solvers.grouped:alternating",
        "anderson": "hepcli.engine._solvers.grouped:anderson",
    },
)
ACTIVATIONS = Parts(
    "activation",
    {
        "sigmoid": "hepcli.networks._activations:sigmoid",
        "dsilu": "hepcli.networks._activations:dsilu",
        "tanh": "hepcli.networks._activations:tanh",
        "softplus": "hepcli.networks._activations:softplus",
        "linear": "hepcli.networks._activations:linear",
        "hard_sigmoid": "hepcli.networks._activations:hard_sigmoid",
        "relu6": "hepcli.networks._activations:relu6",
        "clipped_relu": "hepcli.networks._activations:clipped_relu",
    },
)
NOT_HOLOMORPHIC = {"hard_sigmoid", "relu6", "clipped_relu"}
"""Activations that are defined for real states only, so that nudges must be real."""
LOSSES = Parts(
    "loss",
    {
        "cross_entropy": "hepcli.networks._losses:CROSS_ENTROPY",
        "squared_error": "hepcli.networks._losses:SQUARED_ERROR",
    },
)
LAYER_KINDS = Parts(
    "layer kind",
    {
        "dense": "hepcli.networks._kinds.dense:DENSE",
        "conv": "hepcli.networks._kinds.conv:CONV",
    },
)
KERNELS = Parts(
    "kernel",
    {
        "shared": "hepcli.networks._convolution:SHARED",
        "local": "hepcli.networks._convolution:LOCAL",
    },
)
OPTIMIZERS = Parts(
    "optimiser",
    {
        "sgd": "hepcli.training._optimizers:sgd",
        "adamw": "hepcli.training._optimizers:adamw",
    },
)
SCHEDULES = Parts(
    "schedule",
    {
        "constant": "hepcli.training._optimizers:constant",
        "cosine": "hepcli.training._optimizers:cosine",
    },
)
AUGMENTATIONS = Parts(
    "augmentation",
    {
        "none": "hepcli.training._preprocess:no_augmentation",
        "flip_crop": "hepcli.training._preprocess:flip_crop",
        "rand_augment": "hepcli.training._preprocess:rand_augment_crop",
    },
)
TRACKERS = Parts(
    "tracker",
    {
        "tensorboard": "hepcli.experiments.trackers:_TensorBoard",
        "wandb": "hepcli.experiments.trackers:_WandB",
    },
)
DATASETS = Parts(
    "data set",
    {
        "fashion_mnist_mini": "hepcli.data._mnist:FASHION_MNIST_MINI",
        "fashion_mnist": "hepcli.data._mnist:FASHION_MNIST",
        "mnist": "hepcli.data._mnist:MNIST",
        "kmnist": "hepcli.data._mnist:KMNIST",
        "svhn_cropped": "hepcli.data._svhn:SVHN_CROPPED",
        "cifar10": "hepcli.data._cifar:CIFAR10",
        "cifar100": "hepcli.data._cifar:CIFAR100",
        "imagenet32": "hepcli.data._imagenet32:IMAGENET32",
    },
)


def has_own_parts(names: Iterable[str]) -> bool:
    """Whether one of these names is that of a part of the user's own that networks or training could use."""
    kinds = ESTIMATORS, SOLVERS, ACTIVATIONS, LOSSES, LAYER_KINDS, OPTIMIZERS
    return any(parts.is_own(name) for parts in kinds for name in names)


def is_own_name(name: str) -> bool:
    """Whether a data set that a user imports may be called so: no known one, nor what a typo makes of it."""
    is_plain = re.fullmatch("[a-z][a-z0-9_]*", name) is not None
    return is_plain and not difflib.get_close_matches(name, list(DATASETS), n=1, cutoff=0.85)
