"""The kinds of layers: what [network.layers] may say of each, and what follows from it for its neighbours."""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, SerializationInfo, TypeAdapter, WrapSerializer
from pydantic_core import PydanticKnownError
from typing_extensions import TypedDict

from hepcli.settings._limits import STRICT, Count, PositiveFloat, name_of
from hepcli.settings.activations import SAME, LayerActivationName
from hepcli.settings.faults import Fault, assigned
from hepcli.settings.parts import KERNELS, Parts

PaddingName = Literal["same", "valid"]
WeightsName = Annotated[str, name_of(KERNELS)]
Temperature = Annotated[float, Field(ge=1e-6)]

Shape = tuple[int, ...]
"""Of the units of one example: (units,), or (height, width, channels) of an image."""


def pooled_size(size: int, pool_size: int, stride: int) -> int:
    """Whole windows along an axis; what is left over at its end is not pooled."""
    return max(0, (size - pool_size) // stride + 1)


@dataclass(frozen=True, kw_only=True)
class DenseLayer:
    """A layer of units, all connected to all.

    Attributes:
        kind: the kind of layer.
        units: number of units.
        activation: of this layer; `same` as `network.activation`.
        gain: factor of the LeCun-normal kernels at the start, between this layer and those below it, in both
            directions, and from the layer to itself.
    """

    __pydantic_config__ = STRICT
    is_image: ClassVar[bool] = False
    size_key: ClassVar[str] = "units"

    kind: Literal["dense"] = "dense"
    units: Count
    activation: LayerActivationName = SAME
    gain: PositiveFloat = 1.0

    def shape(self, below: Shape) -> Shape:
        """Shape of the layer when it is driven from below by `below`, which it flattens."""
        return (self.units,)

    def multiply_adds(self, below: Shape, above: Shape) -> int:
        """Of one product with the kernel."""
        return math.prod(below) * math.prod(above)

    def misfits(self, key: str, below: str, shape: Shape) -> list[Fault]:
        """What does not fit the layer below: nothing."""
        return []


@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """A layer of images, with the convolution and the softmax pooling that drive it from below.

    Attributes:
        kind: the kind of layer.
        channels: channels.
        kernel_size: rows and columns of the kernel.
        stride: rows and columns from one place of the kernel to the next.
        padding: zeros around the image: `same` keeps its size at a stride of 1, `valid` adds none.
        pool_size: rows and columns of a pooling window; 1 with a pool_stride of 1 does not pool.
        pool_stride: rows and columns from one window to the next.
        pool_temperature: of the softmax pooling; near 0, from 1e-6 on, the maximum.
        weights: `shared` by all places, or `local`, a kernel for each.
        activation: of this layer; `same` as `network.activation`.
        gain: factor of the LeCun-normal kernels at the start, between this layer and those below it, in both
            directions, and from the layer to itself.
    """

    __pydantic_config__ = STRICT
    is_image: ClassVar[bool] = True
    size_key: ClassVar[str] = "channels"

    kind: Literal["conv"]
    channels: Count
    kernel_size: Count = 3
    stride: Count = 1
    padding: PaddingName = "same"
    pool_size: Count = 2
    pool_stride: Count = 2
    pool_temperature: Temperature = 1.0
    weights: WeightsName = "shared"
    activation: LayerActivationName = SAME
    gain: PositiveFloat = 1.0

    @property
    def is_pooled(self) -> bool:
        """Whether more than one place goes into a pooled value, or some into none."""
        return (self.pool_size, self.pool_stride) != (1, 1)

    def convolved(self, below: Shape) -> Shape:
        """Shape of the convolution of an image, before pooling; not positive where the kernel is larger."""
        lost = 0 if self.padding == "same" else self.kernel_size - 1
        rows, columns = ((size - lost - 1) // self.stride + 1 for size in below[:2])
        return rows, columns, self.channels

    def shape(self, below: Shape) -> Shape:
        """Shape of the layer when it is driven from below by an image; 0 where no window fits."""
        height, width, channels = self.convolved(below)
        rows, columns = (pooled_size(size, self.pool_size, self.pool_stride) for size in (height, width))
        return rows, columns, channels

    def multiply_adds(self, below: Shape, above: Shape) -> int:
        """Of one convolution."""
        return math.prod(self.convolved(below)) * self.kernel_size**2 * below[-1]

    def misfits(self, key: str, below: str, shape: Shape) -> list[Fault]:
        """What does not fit the image below: one of which nothing is left, or a kernel far larger than it.

        Args:
            key: dotted key of this layer.
            below: name of the layer below, or `in`.
            shape: of its image.
        """
        rows, columns = shape[:2]
        if 0 in self.shape(shape):
            lost = (
                f"the {rows} × {columns} image of {below} shrinks to nothing with "
                f"kernel_size = {self.kernel_size} ({self.padding}) and pool_size = {self.pool_size}"
            )
            advice = f'set a smaller {key}.pool_size or padding="same", or use fewer conv layers'
            return [Fault(key, f"{lost}; {advice}")]
        widest = 2 * max(rows, columns) + 1  # from any place beyond the far side
        if self.kernel_size > widest:
            larger = (
                f"is more than twice the size of the {rows} × {columns} image of {below}; use at "
                f"most {widest}"
            )
            return [Fault(assigned(f"{key}.kernel_size", self.kernel_size), larger)]
        return []


def layer_kind(layer: Any) -> Any:
    """The kind of a layer, given as a raw table or as settings; dense unless it says otherwise."""
    return layer.get("kind", "dense") if isinstance(layer, Mapping) else getattr(layer, "kind", "dense")


class KernelSettings(TypedDict, total=False):
    """What a connection does otherwise than its layer says; the keys of `ConvLayer` mean what they do there.

    Attributes:
        kind: `dense` connects all units with all, images flattened, also where the layer is one of images.
        kernel_size: rows and columns of the kernel.
        stride: from one place of the kernel to the next.
        padding: zeros around the image.
        pool_size: rows and columns of a pooling window.
        pool_stride: from one window to the next.
        pool_temperature: of the softmax pooling.
        weights: `shared` or `local`.
        gain: factor of the LeCun-normal kernel at the start.
        bias: whether a forward connection has one.
    """

    __pydantic_config__ = STRICT  # type: ignore[misc]

    kind: Literal["dense", "conv"]
    kernel_size: Count
    stride: Count
    padding: PaddingName
    pool_size: Count
    pool_stride: Count
    pool_temperature: Temperature
    weights: WeightsName
    gain: PositiveFloat
    bias: bool


LAYERS = Parts("layer", built_in={"dense": DenseLayer, "conv": ConvLayer})
"""Settings of a layer by kind; what it does is the part of that name in `parts.LAYER_KINDS`."""


def _read_layer(layer: Any) -> Any:
    """A layer's table as the settings of its kind, which a user's own code may have added."""
    kind = layer_kind(layer)
    if not isinstance(layer, Mapping):
        if any(isinstance(layer, own) for own in LAYERS.values()):
            return layer
        raise PydanticKnownError("dataclass_type", {"class_name": "layer"})
    if not isinstance(kind, str) or kind not in LAYERS:
        expected = ", ".join(f"'{name}'" for name in LAYERS)
        context = {"discriminator": "kind", "tag": str(kind), "expected_tags": expected}
        raise PydanticKnownError("union_tag_invalid", context)
    # From JSON, strict records take a list for a tuple.
    return _reader(LAYERS[kind]).validate_json(json.dumps(layer, default=str))


def _write_layer(layer: Any, handler: Any, info: SerializationInfo) -> Any:
    mode: Any = info.mode
    record: Any = type(layer)
    written = _reader(record).dump_python(layer, mode=mode, exclude_defaults=info.exclude_defaults)
    # A kind of a user's own is the default of its own table, but not of layers.
    return written if layer.kind == "dense" else {"kind": layer.kind, **written}


@functools.cache
def _reader(record: Any) -> TypeAdapter[Any]:
    return TypeAdapter(record)


LayerSettings = Annotated[DenseLayer | ConvLayer, PlainValidator(_read_layer), WrapSerializer(_write_layer)]
