"""Where arrays lie: the batch split over a mesh of devices, everything else on each of them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, dtypes
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

_BATCH = "batch"


class Layout:
    """Data parallelism over a mesh of one axis, within a process or over several.

    With one device it does nothing but put arrays there.

    Args:
        devices: of the mesh; None for all devices of all processes.
        is_apart: whether they exchange nothing within a program, see `OneForEach`; None: by their kind.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None, is_apart: bool | None = None) -> None:
        self.devices = tuple(jax.devices() if devices is None else devices)
        are_cores = self.devices[0].platform == "cpu" and jax.process_count() == 1
        self.is_apart: bool = len(self.devices) > 1 and (are_cores if is_apart is None else is_apart)
        shared = len(self.devices) > 1 and not self.is_apart
        self._mesh = Mesh(np.asarray(self.devices), (_BATCH,)) if shared else None

    def __eq__(self, other: object) -> bool:
        """Equal layouts share compiled programs."""
        same = isinstance(other, Layout) and self.devices == other.devices
        return same and self.is_apart == other.is_apart  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.devices, self.is_apart))

    @property
    def num_devices(self) -> int:
        """Devices that share a batch."""
        return len(self.devices)

    @property
    def everywhere(self) -> NamedSharding | None:
        """The sharding of what lies whole on each device; None with one device."""
        return None if self._mesh is None else _sharding(self._mesh, None)

    def one_for_each(self, act: Callable[[Any, Any], tuple[Any, Any]]) -> "OneForEach":
        """A program that each device runs by itself, on its own part of a batch."""
        return OneForEach(act, self.devices)

    def replicate(self, tree: Any) -> Any:
        """Put a tree of host arrays, the same in every process, on each device."""
        return jax.tree.map(lambda leaf: self._put(leaf, None), tree)

    def split(self, array: NDArray[Any], axis: int = 0) -> Array:
        """Split an array along its examples; whole on each device where they do not divide it.

        Args:
            array: on the host, the same in every process.
            axis: of the examples.

        Returns:
            The array on the devices.
        """
        return self._put(array, axis if array.shape[axis] % self.num_devices == 0 else None)

    def gather(self, read: Callable[[NDArray[np.int64]], NDArray[Any]], rows: NDArray[np.int64]) -> Array:
        """Split what `read` returns for rows along them; a process reads the rows of its own devices only.

        Args:
            read: rows -> one entry a row.
            rows: which; whole on each device where the devices do not divide them.

        Returns:
            The entries on the devices.
        """
        if self._mesh is None:
            return _on_device(read(rows), self.devices[0])
        axis = 0 if len(rows) % self.num_devices == 0 else None
        shape = (len(rows), *read(rows[:1]).shape[1:])
        return _global(shape, _sharding(self._mesh, axis), lambda index: read(rows[index[0]]))

    def constrain(self, array: Array) -> Array:
        """Inside a compiled function: keep an array split along its first axis, the examples."""
        if self._mesh is None or array.shape[0] % self.num_devices:
            return array
        result: Array = jax.lax.with_sharding_constraint(array, _sharding(self._mesh, 0))  # type: ignore[no-untyped-call]
        return result

    def by_device(self, act: Callable[[Any, Any], tuple[Any, Any]], own: Any, shared: Any) -> tuple[Any, Any]:
        """Inside a compiled function: act on each device's examples, with nothing exchanged until it is done.

        Args:
            act: (arrays of some examples, arrays of all) -> (arrays of those examples, sums over them).
            own: arrays with the examples in front.
            shared: arrays that are the same everywhere.

        Returns:
            The arrays of all examples, and the sums over all. Where the devices do not divide the examples,
            each of them acts on all.
        """
        leaves = jax.tree.leaves(own)
        if self._mesh is None or any(leaf.shape[0] % self.num_devices for leaf in leaves):
            return act(own, shared)

        def on_one(own: Any, shared: Any) -> tuple[Any, Any]:
            arrays, sums = act(own, shared)
            return arrays, jax.lax.psum(sums, _BATCH)  # type: ignore[no-untyped-call]

        specs = PartitionSpec(_BATCH), PartitionSpec()  # type: ignore[no-untyped-call]
        everywhere = jax.shard_map(on_one, mesh=self._mesh, in_specs=specs, out_specs=specs, check_vma=False)
        return everywhere(own, shared)

    def _put(self, leaf: Any, axis: int | None) -> Array:
        if self._mesh is None:
            return _on_device(leaf, self.devices[0])
        if isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, dtypes.prng_key):
            key: Array = jax.random.wrap_key_data(
                self._put(jax.random.key_data(leaf), axis), impl=jax.random.key_impl(leaf)
            )
            return key
        array = np.asarray(leaf)
        return _global(array.shape, _sharding(self._mesh, axis), lambda index: array[index])


class OneForEach:
    """A program that each device runs by itself, at the same time as the others, with one thread.

    It is compiled once for all of them. Results travel as one array for each type of numbers: many small
    ones would take longer than the work.

    Args:
        act: (arrays of some examples, arrays of all) -> (arrays of those examples, sums over them).
        devices: one for each part of a batch.
    """

    def __init__(self, act: Callable[[Any, Any], tuple[Any, Any]], devices: Sequence[jax.Device]) -> None:
        self._devices = devices
        mesh = Mesh(np.asarray(devices), (_BATCH,))
        self._split, self._everywhere = _sharding(mesh, 0), _sharding(mesh, None)
        self._like: Any = None  # the shapes of a part's results, found when the program is traced

        def one_device(own: Any, shared: Any) -> list[Array]:
            result = act(own, shared)
            self._like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), result)  # type: ignore[no-untyped-call]
            return _pack(result)

        shardings = self._split, self._everywhere
        specs = self._split.spec, self._everywhere.spec
        on_each = jax.shard_map(one_device, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False)
        options = {"xla_cpu_multi_thread_eigen": False}
        self._on_first = jax.jit(one_device, compiler_options=options)
        self._on_each = jax.jit(on_each, in_shardings=shardings, compiler_options=options)

    def __call__(self, own: Any, shared: Any) -> list[list[Array]]:
        """Run on each device's part, or on the first alone where the devices do not divide the examples.

        Args:
            own: arrays with the examples in front, on the host or on the first device.
            shared: arrays that are the same everywhere, on the first device.

        Returns:
            The results of each part, packed and on the first device.
        """
        home, *others = self._devices
        if len(jax.tree.leaves(own)[0]) % len(self._devices):
            return [self._on_first(own, shared)]
        copies = [shared, *(jax.device_put(shared, device) for device in others)]
        packed = self._on_each(jax.tree.map(self._parts, own), jax.tree.map(self._same, *copies))
        apart = [[shard.data for shard in array.addressable_shards] for array in packed]
        first, *rest = (list(part) for part in zip(*apart, strict=True))
        return [first, *jax.device_put(rest, home)]

    def _same(self, *copies: Array) -> Array:
        """One array of its copies, one on each device: JAX takes longer to make them itself."""
        return jax.make_array_from_single_device_arrays(copies[0].shape, self._everywhere, copies)

    def _parts(self, array: Array | NDArray[Any]) -> Array | NDArray[Any]:
        """Of an array on the first device; one on the host is taken apart more quickly by the call itself."""
        return array if isinstance(array, np.ndarray) else jax.device_put(array, self._split)

    def add_up(self, packed: Sequence[Sequence[Array]]) -> tuple[Any, Any]:
        """Inside a program: the arrays of a whole batch and the sums over it, of the results of its parts."""
        arrays, sums = zip(*(_unpack(part, self._like) for part in packed), strict=True)
        whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *arrays)
        return whole, jax.tree.map(lambda *leaves: sum(leaves[1:], start=leaves[0]), *sums)


def _pack(tree: Any) -> list[Array]:
    """A tree as one array for each dtype."""
    leaves = jax.tree.leaves(tree)
    return [_flat([leaf for leaf in leaves if leaf.dtype == dtype]) for dtype in _dtypes(leaves)]


def _flat(leaves: Sequence[Array]) -> Array:
    """Arrays one after the other; XLA's concatenation is 7 times slower on CPUs."""
    flat, start = jnp.empty(sum(leaf.size for leaf in leaves), leaves[0].dtype), 0
    for leaf in leaves:
        flat = jax.lax.dynamic_update_slice(flat, leaf.ravel(), (start,))
        start += leaf.size
    return flat


def _unpack(packed: Sequence[Array], like: Any) -> Any:
    """The tree that `_pack` packed, of the shapes of `like`."""
    leaves, treedef = jax.tree.flatten(like)
    dtypes = _dtypes(leaves)
    first, unpacked = dict.fromkeys(dtypes, 0), []
    for leaf in leaves:
        start = first[leaf.dtype]
        first[leaf.dtype] += leaf.size
        flat = packed[dtypes.index(leaf.dtype)][start : first[leaf.dtype]]
        unpacked.append(flat.reshape(leaf.shape))
    return jax.tree.unflatten(treedef, unpacked)


def _dtypes(leaves: Sequence[Any]) -> list[np.dtype]:
    return list(dict.fromkeys(leaf.dtype for leaf in leaves))


def _sharding(mesh: Mesh, axis: int | None) -> NamedSharding:
    """Split along an axis, the examples, or whole on each device."""
    parts = () if axis is None else (*[None] * axis, _BATCH)
    return NamedSharding(mesh, PartitionSpec(*parts))  # type: ignore[no-untyped-call]


def _on_device(leaf: Any, device: jax.Device) -> Array:
    array: Array = jax.device_put(leaf, device)
    return array


def _global(shape: tuple[int, ...], sharding: NamedSharding, read: Callable[[Any], NDArray[Any]]) -> Array:
    """An array over all processes, of which each reads the parts of its own devices."""
    array: Array = jax.make_array_from_callback(shape, sharding, read)
    return array


def all_agree(flag: bool) -> bool:
    """Whether a flag is set in every process; all of them must ask."""
    return bool(np.all(_of_every_process(flag)))


def same_everywhere(number: int) -> bool:
    """Whether a number is the same in every process; all of them must ask."""
    return len(np.unique(_of_every_process(number))) == 1


def _of_every_process(value: bool | int) -> NDArray[Any]:
    """The values that the processes give, one each."""
    if jax.process_count() == 1:
        return np.asarray([value])
    from jax.experimental.multihost_utils import process_allgather

    result: NDArray[Any] = process_allgather(np.asarray(value, np.int32))
    return result
