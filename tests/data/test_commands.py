import json

import pytest
from typer.testing import CliRunner

from hepcli.cli.data import app


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_list_as_json(archives, data_dir):
    result = invoke("list", "--json", "--data-dir", data_dir)
    records = {record["name"]: record for record in json.loads(result.stdout)["datasets"]}
    assert records["fashion_mnist"] == {
        "name": "fashion_mnist",
        "state": "missing",
        "train_examples": 12,
        "test_examples": 5,
        "num_classes": 10,
        "location": None,
    }
    assert records["fashion_mnist_mini"]["state"] == "bundled"


def test_list_shows_every_data_set_with_its_size(data_dir):
    records = json.loads(invoke("list", "--json", "--data-dir", data_dir).stdout)["datasets"]
    assert {record.pop("name"): tuple(record.values())[1:4] for record in records} == {
        "fashion_mnist_mini": (5_000, 1_000, 10),
        "fashion_mnist": (60_000, 10_000, 10),
        "mnist": (60_000, 10_000, 10),
        "kmnist": (60_000, 10_000, 10),
        "svhn_cropped": (73_257, 26_032, 10),
        "cifar10": (50_000, 10_000, 10),
        "cifar100": (50_000, 10_000, 100),
        "imagenet32": (1_281_167, 50_000, 1000),
    }


def test_list_table_goes_to_stderr_and_keeps_long_paths_whole(archives, tmp_path):
    data_dir = tmp_path / ("[/x]" + "long" * 30)
    invoke("import", "fashion_mnist", archives.folder, "--data-dir", data_dir)
    result = invoke("list", "--data-dir", data_dir)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert str(data_dir / "fashion_mnist" / "1.0.0") in result.stderr
    assert "fashion_mnist_mini" in result.stderr


def test_import_prints_the_folder_alone_on_stdout(archives, data_dir, prepared):
    result = invoke("import", "fashion_mnist", archives.folder, "--data-dir", data_dir)
    assert result.exit_code == 0
    assert result.stdout == f"{prepared}\n"
    assert "sizes and labels checked" in result.stderr


def test_prepare_of_what_ships_with_hep(data_dir):
    result = invoke("prepare", "fashion_mnist_mini", "--data-dir", data_dir)
    assert result.stdout.strip().endswith("fashion_mnist_mini.npz")
    assert "nothing to prepare" in result.stderr


@pytest.mark.parametrize("arguments", [("prepare", "fashionmnist"), ("import", "fashionmnist", ".")])
def test_unknown_name(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "Did you mean fashion_mnist" in result.stderr


@pytest.mark.parametrize("command", ["list", "prepare", "import"])
def test_help_ends_with_an_example(command):
    example = invoke(command, "--help").stdout.partition("Example:")[2]
    assert example.split()[:3] == ["hep", "data", command]


def test_wrong_usage_exits_2():
    assert invoke("import", "fashion_mnist").exit_code == 2
