"""Slurm arrays: what is submitted, and what a job does."""

import os
import pickle
import signal
import stat
import threading

import pytest

from hepcli.errors import ConfigError, SweepError
from hepcli.experiments.sweeps import slurm
from hepcli.experiments.sweeps.definition import SweepRequest

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
SCRIPTS = {
    "srun": "exit 0",
    "sbatch": 'cp "$1" "$(dirname "$0")/submitted.sh"; echo "Submitted batch job 77"',
}


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """An sbatch that keeps what it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in SCRIPTS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def request(out):
    return SweepRequest(preset="quickstart", vary=["gradient.num_points=1,2"], out=out, jobs=3)


def test_an_array_of_workers(tmp_path, fake_slurm):
    submitted = slurm.submit(request(tmp_path / "out"), "partition=gpu,time=90,cpus_per_task=4")
    assert submitted.jobs == ["77_0", "77_1", "77_2"]
    assert submitted.report == f"hep sweep --report {tmp_path / 'out'}"
    script = (fake_slurm / "submitted.sh").read_text()
    for option in ("--array=0-2", "--partition=gpu", "--time=90", "--cpus-per-task=4", "--job-name=out"):
        assert f"#SBATCH {option}" in script
    assert (tmp_path / "out" / "sweep.toml").is_file()
    delayed = pickle.loads((tmp_path / "out" / "logs" / "77_1_submitted.pkl").read_bytes())
    assert isinstance(delayed.function, slurm.SlurmWorker)
    assert delayed.args == (1,)


def test_a_job_that_slurm_warns_saves_and_is_queued_again(monkeypatch):
    """In a signal handler, in the middle of waiting for the worker."""
    save = "trap 'exit 0' TERM; echo started; while true; do sleep 0.05; done"
    monkeypatch.setattr(slurm, "WORKER", ["sh", "-c", save])
    worker, queued = slurm.SlurmWorker(()), []
    before = signal.signal(signal.SIGUSR2, lambda *_: queued.append(worker.checkpoint(3)))
    warning = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR2))
    warning.start()
    try:
        assert worker(3) == 3
    finally:
        warning.cancel()
        signal.signal(signal.SIGUSR2, before)
    assert [one.args for one in queued] == [(3,)]


def test_options_of_ones_own_replace_those_of_hep(tmp_path, fake_slurm):
    options = "time=5,job_name=mine,signal_delay_s=30,setup='module load cuda',srun_args='--mpi none'"
    slurm.submit(request(tmp_path / "out"), options)
    script = (fake_slurm / "submitted.sh").read_text()
    for line in ("#SBATCH --job-name=mine", "#SBATCH --signal=USR2@30", "module load cuda", "--mpi none"):
        assert line in script


def test_what_slurm_would_refuse_leaves_no_sweep(tmp_path, fake_slurm):
    with pytest.raises(SweepError, match="Slurm refused"):
        slurm.submit(request(tmp_path / "out"), "time=1,additional_parameters=x")
    assert not (tmp_path / "out").exists()


def test_an_option_that_slurm_does_not_know(tmp_path, fake_slurm):
    with pytest.raises(ConfigError, match=r"partitio=…: did you mean partition\?"):
        slurm.submit(request(tmp_path / "out"), "partitio=gpu")


def test_without_slurm_or_submitit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SweepError, match="Slurm is not installed here"):
        slurm.submit(request(tmp_path / "out"), "time=1")
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    with pytest.raises(SweepError, match="submitit, which is not installed") as error:
        slurm.submit(request(tmp_path / "out"), "time=1")
    assert "hepcli[slurm]" in error.value.advice
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", ["", "gpu", "time=", "=1", "a b=1", "time=1,,x=2"])
def test_options_are_refused(options):
    with pytest.raises(ConfigError, match="--slurm"):
        slurm.parse_options(options)


def test_commas_in_quotes_and_brackets_belong_to_their_value():
    assert slurm.parse_options("account=00123,qos='12'") == {"account": "00123", "qos": "12"}
    found = slurm.parse_options('time=5,nodelist=n[1,2],exclude="n1,n2",reservation=course')
    assert found == {"time": 5, "nodelist": "n[1,2]", "exclude": "n1,n2", "reservation": "course"}
    assert slurm._for_submitit(found, {"time", "nodelist"}) == {
        "time": 5,
        "nodelist": "n[1,2]",
        "additional_parameters": {"exclude": "n1,n2", "reservation": "course"},
    }
