"""Several devices and several processes: the same learning, checkpoints and records as one device."""

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

import hepcli
from hepcli.checkpoints import CheckpointStore
from hepcli.config import load_config
from hepcli.experiments import processes
from hepcli.experiments.devices import devices_for, idle_notice

pytestmark = pytest.mark.slow

SMALL = (
    "network.layers.l1.units=12", "network.layers.l2.units=8", "relaxation.free_steps=12",
    "relaxation.nudged_steps=4", "data.batch_size=500", "data.eval_batch_size=300",
    "data.augmentation=flip_crop", "homeostasis.weight=0.1", "network.initial_angle_deg=60",
    "relaxation.tolerance=0.0", "relaxation.noise_std=0.001", "optimizer.schedule=constant",
)  # fmt: skip


def with_devices(number):
    """XLA's flags, and with them as many CPU devices."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}".strip()


def start(out, *arguments, devices=1, environment=None):
    """`hep train` in a process of its own, on CPU devices made up for it."""
    own = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": with_devices(devices)}
    environment = os.environ | own | (environment or {})
    words = [sys.executable, "-m", "hepcli", "train", "--out", str(out), "--json", *arguments]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def settings(*more):
    return [word for setting in (*SMALL, *more) for word in ("--set", setting)]


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def history(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def numbers(record) -> dict[str, float]:
    """All numbers of a line, by dotted key."""
    found = {}
    for key, value in record.items():
        if isinstance(value, dict):
            found |= {f"{key}.{inner}": number for inner, number in numbers(value).items()}
        elif value is not None:
            found[key] = value
    return found


def assert_same_history(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        mine, its = numbers(one), numbers(other)
        assert mine.keys() == its.keys()
        for key, value in its.items():
            # An example at the edge between two classes may fall to either side.
            limit = 0.004 if "top" in key or "settled" in key else 2e-3 * abs(value)
            assert abs(mine[key] - value) <= limit, key


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Two epochs on one device."""
    out = tmp_path_factory.mktemp("alone") / "run"
    finish(start(out, *settings(), "--epochs", "2"))
    return out


def saved_params(folder):
    return {
        leaf["key"]: (name, leaf["shape"])
        for step in (folder / "checkpoints").iterdir()
        if step.name.isdecimal()
        for name, leaf in json.loads((step / "manifest.json").read_text())["leaves"].items()
    }


def test_four_devices_learn_what_one_does_and_one_resumes_their_run(alone, tmp_path):
    out, _ = finish(start(tmp_path / "run", *settings(), "--epochs", "1", devices=4))
    assert len(json.loads(out)["devices"]) == 4
    assert_same_history(history(tmp_path / "run"), history(alone)[:1])
    assert saved_params(tmp_path / "run").items() <= saved_params(alone).items()  # same leaves and shapes
    finish(start(tmp_path / "run", "--resume", "--epochs", "2"))
    assert_same_history(history(tmp_path / "run"), history(alone))
    steps = CheckpointStore(tmp_path / "run/checkpoints").steps()
    assert list(steps) == list(CheckpointStore(alone / "checkpoints").steps())


def test_a_batch_that_the_devices_do_not_divide(tmp_path):
    process = start(tmp_path / "run", *settings("data.batch_size=502"), devices=4)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "data.batch_size = 502: 4 devices cannot share it evenly." in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, None),  # no task of Slurm
        ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_LOCALID": "3"}, [0]),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_LOCALID": "1", "SLURM_GPUS_PER_TASK": "2"}, [0, 1]),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_LOCALID": "3"}, None),  # JAX takes its own of them
        ({"SLURM_LOCALID": "3"}, None),
    ],
)
def test_a_task_that_sees_its_own_gpus_takes_them(monkeypatch, environment, expected):
    for variable in ("CUDA_VISIBLE_DEVICES", "SLURM_LOCALID", "SLURM_GPUS_PER_TASK"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert processes._own_devices() == expected


def test_parts_that_do_not_divide_what_a_device_has(tmp_path):
    process = start(tmp_path / "run", *settings("data.accumulate=3"), devices=2)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "data.accumulate = 3: it must divide the 250 examples" in err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_two(out, *arguments, devices=1):
    """Two processes of one run on this machine."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            out,
            "--distributed",
            *arguments,
            devices=devices,
            environment={
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
            },
        )
        for number in range(2)
    ]


def test_two_processes_learn_what_one_does_and_resume_their_run(alone, tmp_path):
    first, second = map(finish, start_two(tmp_path / "run", *settings(), "--epochs", "1"))
    summary = json.loads(first[0])
    assert (len(summary["devices"]), summary["processes"]) == (2, 2)
    assert second[0] == ""  # one of them speaks
    assert_same_history(history(tmp_path / "run"), history(alone)[:1])
    for process in start_two(tmp_path / "run", "--resume", "--epochs", "2"):
        finish(process)
    assert_same_history(history(tmp_path / "run"), history(alone))


@pytest.mark.parametrize(
    ("batch", "parts", "used"), [(50, 1, 5), (256, 1, 8), (48, 2, 8), (64, 16, 4), (7, 1, 7), (11, 1, 1)]
)
def test_as_many_gpus_as_divide_a_batch(monkeypatch, batch, parts, used):
    """The first command of the README must not fail on a node with eight of them."""
    network = hepcli.init_model("quickstart").network
    gpu = SimpleNamespace(platform="gpu")
    monkeypatch.setattr(jax, "devices", lambda: [gpu] * 8)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    config = load_config("quickstart", [f"data.batch_size={batch}", f"data.accumulate={parts}"]).config
    assert len(devices_for(config, network)) == used
    notice = idle_notice(config, used)
    assert (notice is None) == (used == 8)
    assert used == 8 or f"{used} of 8 GPUs in use: 8 cannot share {batch // parts} examples" in notice
    asked = load_config("quickstart", [f"data.batch_size={batch}", "run.devices=3"]).config
    assert (len(devices_for(asked, network)), idle_notice(asked, 3)) == (3, None)


def test_what_one_process_refuses_ends_all(alone, tmp_path):
    """Only the first writes, and so only it sees that the folder holds a run."""
    processes = start_two(alone, *settings(), "--epochs", "1")
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    assert "already contains a run" in errors[0]
    assert "Another process of this run failed" in errors[1]


def test_distributed_without_others(tmp_path):
    process = start(tmp_path / "run", "--distributed")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "--distributed: coordinator_address should be defined." in err
    assert "srun" in err


def test_arrays_on_four_devices(tmp_path):
    """Where a layout puts what; in a process of its own, since this one has a single device."""
    script = tmp_path / "layout.py"
    script.write_text(
        "import jax, numpy as np\n"
        "from hepcli.training import Feed, Layout\n"
        "layout = Layout(is_apart=False)\n"
        "assert layout.num_devices == 4\n"
        "assert layout.replicate(np.arange(8)).is_fully_replicated\n"
        "assert not layout.split(np.arange(8)).is_fully_replicated\n"
        "assert layout.split(np.arange(6)).is_fully_replicated\n"
        "images = np.random.default_rng(0).integers(0, 256, (20, 2, 2, 1)).astype(np.uint8)\n"
        "for resident in (True, False):\n"
        "    feed = Feed(images, np.arange(20, dtype=np.int32), layout, resident)\n"
        "    for wanted in (np.array([3, 1, 19, 4]), np.array([7, 2, 2])):\n"
        "        batch = next(feed.batches([wanted]))\n"
        "        take = jax.jit(lambda b: layout.constrain(b.images[b.rows]))\n"
        "        chosen = take(batch)\n"
        "        np.testing.assert_array_equal(chosen, images[wanted])\n"
        "        assert chosen.is_fully_replicated == (len(wanted) == 3)\n"
    )
    environment = os.environ | {"XLA_FLAGS": with_devices(4)}
    subprocess.run([sys.executable, script], check=True, env=environment, timeout=300)
