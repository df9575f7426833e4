"""The scripts of the papers' tables and figures: what they would run is right."""

import re
from itertools import product
from pathlib import Path

import pytest

from tests.launches import LAUNCH, PROGRAMS, bash, commands, trained
from utils.command_line.commands.evaluate import EvaluateOptions
from utils.command_line.commands.picture import PictureOptions
from utils.command_line.options import Options, effective
from utils.command_line.parser import build_parser
from utils.training.plan import make_plan

TABLES = sorted(path.name for path in LAUNCH.glob("*_*.sh") if 'table.sh" ' in path.read_text())
TABLES.remove("gpu_batch.sh")
AFTERWARDS = ("utils.superpose", "utils.evaluate", "utils.picture")  # commands that train nothing
SCALES = [(), ("--epochs", "60"), ("--epochs", "20")]


def test_every_script_is_valid_and_explained():
    for path in LAUNCH.glob("*.sh"):
        bash("-n", path)
    explained = re.findall(r"`((?:sup|free|imagenet)_\S+\.sh)`", (LAUNCH / "README.md").read_text())
    assert len(TABLES) == 40 and sorted(explained) == TABLES


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: "-".join(scale) or "as in the paper")
@pytest.mark.parametrize("script", TABLES)
def test_every_row_is_a_run_of_its_own(script, scale):
    lines = commands(script, "--seeds", "3", *scale)
    *rows, report = lines
    assert report[:3] == ["python", "-m", "utils.report"]
    runs = trained(rows)
    epochs = int(scale[1]) if scale else 100 if rows[0][1] == "main_imagenet.py" else 250
    dense = epochs * 3 // 2 if script == "free_table3_resnet50_imagenet.sh" else epochs
    assert report[report.index("--dense-epochs") + 1] == str(dense)
    assert len(runs) >= 1 and all(row[1] in PROGRAMS or row[2] in AFTERWARDS for row in rows)
    for args in runs:
        plan = make_plan(args, steps_per_epoch=24, batch_size=args.batch_size)
        assert plan[-1].end == 24 * args.epochs
        assert args.seed in (3, 1003) and (args.resume, Path(args.output_dir).name) == ("auto", f"seed-{args.seed}")
        assert not args.sup_tickets or args.save_tickets
    folders = [str(Path(args.output_dir).parent) for args in runs]
    assert len(set(folders)) == len(folders) and set(folders) <= set(report)
    options = [repr({**effective(args), "output_dir": None}) for args in runs]
    assert len(set(options)) == len(options)  # nothing is trained twice


def test_lengths_are_the_papers():
    sup = [args for args in trained(commands("sup_table01_vgg16_cifar.sh", "--seeds", "0")) if args.sup_tickets]
    assert {(args.epochs, args.cycle_epochs, args.num_tickets) for args in sup} == {(250, 8, 3)}
    sup = [args for args in trained(commands("imagenet_granet.sh", "--seeds", "0")) if args.sup_tickets]
    assert {(args.epochs, args.cycle_epochs, args.num_tickets, args.batch_size) for args in sup} == {(100, 2, 4, 128)}
    edst = [args for args in trained(commands("free_table1_wrn28-10_cifar10.sh", "--seeds", "0")) if args.edst]
    lengths = {(args.density, args.epochs, args.exploration_epochs, args.refine_epochs) for args in edst}
    assert lengths == {(0.2, 450, 150, 100), (0.1, 850, 150, 100)}
    longer = {args.epochs for args in trained(commands("sup_table10_longer_training.sh", "--seeds", "0"))}
    assert longer == {250, 274, 298}
    cycles = trained(commands("sup_table05_cycle_length.sh", "--seeds", "0"))
    assert {(args.cycle_epochs, args.num_tickets) for args in cycles} == {(2, 12), (4, 6), (8, 3), (12, 2)}


def test_a_shorter_version_scales_whatever_is_in_epochs():
    sup = [args for args in trained(commands("sup_table01_vgg16_cifar.sh", "--epochs", "125")) if args.sup_tickets]
    assert {(args.epochs, args.cycle_epochs, args.num_tickets) for args in sup} == {(125, 4, 3)}
    shorter = trained(commands("free_table6_snapshot_fge.sh", "--epochs", "125"))
    assert {args.epochs for args in shorter} == {100, 425, 225, 125}
    assert {args.cycle_epochs for args in shorter if args.fge} == {2}
    assert {args.refine_epochs for args in shorter if args.edst} == {50}
    imagenet = trained(commands("free_table3_resnet50_imagenet.sh", "--epochs", "50"))
    assert {args.epochs for args in imagenet} == {75, 85, 155, 100}


def test_seeds_and_places(tmp_path):
    (tmp_path / "data/cifar100").mkdir(parents=True)
    options = ("--seeds", "4 5", "--data-dir", str(tmp_path / "data"), "--output-dir", str(tmp_path / "out"))
    lines = commands("sup_table01_vgg16_cifar.sh", *options)
    runs = trained(lines)
    assert [args.seed for args in runs] == len(runs) // 2 * [4, 5] and len(runs) == 2 * 2 * 19
    places = {args.data: args.data_dir for args in runs}
    assert places == {"cifar10": str(tmp_path / "data"), "cifar100": str(tmp_path / "data/cifar100")}
    assert all(Path(args.output_dir).parent.parent == tmp_path / "out" for args in runs)


def test_other_options_go_to_the_runs_and_other_networks_take_the_place_of_the_tables():
    words = "--data digits --model resnet20 --limit-train 2000 --batch-size 64 --mixed-precision bf16 --seeds 0"
    runs = trained(commands("sup_table07_learning_rate_schedules.sh", *words.split()))
    assert len(runs) == 9  # of two networks one is left
    assert {(args.data, args.model, args.limit_train, args.batch_size) for args in runs} == {
        ("digits", "resnet20", 2000, 64)
    }


def test_a_run_of_another_run_takes_that_of_its_own_seed():
    for script, apart in (("free_table1_wrn28-10_cifar10.sh", 0), ("sup_table19_distillation.sh", 1000)):
        runs = trained(commands(script, "--seeds", "1 2"))
        folders = {args.output_dir for args in runs}
        needed = [(args, Path(path)) for args in runs for path in (args.rewind, *args.distill) if path]
        assert needed
        for args, path in needed:
            run = path if args.rewind else path.parent.parent
            assert str(run) in folders and run.name == f"seed-{args.seed - apart}"


def test_samples_that_are_compared_and_students_and_teachers_share_no_seed():
    runs = trained(commands("sup_table20_significance.sh"))
    plain, sup = ([args.seed for args in runs if args.sup_tickets == tickets] for tickets in (False, True))
    assert len(plain) == len(sup) == 12 * 15 and not {*plain} & {*sup}
    runs = trained(commands("sup_table19_distillation.sh", "--seeds", "0 1 2"))
    teachers, students = ([args.seed for args in runs if bool(args.distill) == distilled] for distilled in (0, 1))
    assert len(students) == len(teachers) == 12 * 3 and not {*students} & {*teachers}


def expanded(words: list[str]) -> list[str]:
    """As bash would where there are two such files."""
    return [word.replace("*", number) for word in words for number in ("12" if "*" in word else "1")]


def networks_of(run: Options) -> list[str]:
    """The tickets of a run's networks."""
    kinds = "member-*/ticket" if run.ensemble else "tickets/ticket-*" if run.edst else "ticket"
    return expanded([f"{run.output_dir}/{kinds}.safetensors"])


def test_other_images_are_those_of_the_table_and_meet_the_tickets_of_each_regime(tmp_path):
    (tmp_path / "svhn").mkdir()
    for script, given in {
        "free_table1_wrn28-10_cifar10.sh": {"corruptions": f"{tmp_path}/CIFAR-10-C"},
        "free_table2_wrn28-10_cifar100.sh": {"corruptions": f"{tmp_path}/CIFAR-100-C"},
        "free_table7_disagreement_per_class.sh": {"per_class": True},
        "free_table11_out_of_distribution_cifar10.sh": {"ood": (f"svhn={tmp_path}/svhn", "cifar100", "gaussian")},
        "free_table12_out_of_distribution_cifar100.sh": {"ood": (f"svhn={tmp_path}/svhn", "cifar10", "gaussian")},
        "free_table13_fgsm.sh": {"fgsm": 8 / 255},
    }.items():
        lines = commands(script, "--seeds", "3", "--others", str(tmp_path), "--output-dir", "out")
        runs = [run for run in trained(lines) if run.method != "gmp"]
        parser = build_parser(EvaluateOptions, "")  # whose other checks are of files, which are not there yet
        evaluated = [parser.given(expanded(line[3:])) for line in lines if line[2] == "utils.evaluate"]
        assert len(runs) == len(evaluated)
        for run, options in zip(runs, evaluated, strict=True):
            assert [str(path) for path in options["tickets"]] == networks_of(run)
            assert {name: options[name] for name in given} == given
            assert options["summary"] == Path(run.output_dir) / "summary.json"


def test_figure_2_compares_the_ensembles_of_each_seed():
    lines = commands("free_figure2_feature_maps.sh", "--seeds", "3 4", "--output-dir", "out of edst")
    runs = [run for run in trained(lines) if run.method != "gmp"]
    parser, pictures = build_parser(PictureOptions, ""), [line for line in lines if line[2] == "utils.picture"]
    for seed, line in zip((3, 4), pictures, strict=True):
        options, own = parser.given(expanded(line[3:])), [run for run in runs if run.seed == seed]
        files = [file for run in own for file in networks_of(run)]
        assert len(own) == 4 and [str(path) for path in options["tickets"]] == files
        assert options["picture"] == "features" and f"seed-{seed}" in str(options["output"])


def test_corrupted_images_are_left_out_where_there_are_none():
    for script in ("free_table1_wrn28-10_cifar10.sh", "free_table3_resnet50_imagenet.sh"):
        assert not [line for line in commands(script, "--seeds", "0") if "utils.evaluate" in line]


def test_tickets_of_high_variance_exchange_as_much_as_it_takes():
    runs = trained(commands("sup_table11_high_variance.sh", "--seeds", "0"))
    assert [(args.explore_rate, bool(args.explore_drop)) for args in runs] == 2 * [(0.5, False), (0.9, True)]


def test_table_3_has_the_rows_whose_flops_it_prints():
    runs = [args for args in trained(commands("sup_table03_resnet50_imagenet.sh", "--seeds", "0")) if args.sparse]
    rows = [(args.method, args.sparse_init, list(args.exempt), args.prune_rate) for args in runs if args.density == 0.1]
    stem = ["conv1.weight"]
    for row in [
        ("snip", None, [], 0.5),
        ("snip", "snip-layerwise", stem, 0.5),
        ("set", "uniform", stem, 0.5),
        ("dsr", None, [*stem, "layer*downsample*"], 0.08),
        ("snfs", "erk", [], 0.5),
    ]:
        assert rows.count(row) == 1


def test_table_15_has_its_dense_networks():
    runs = trained(commands("sup_table15_batch_norm_cifar.sh", "--seeds", "0"))
    dense = [(args.data, args.model) for args in runs if not args.sparse]
    assert sorted(dense) == sorted(product(("cifar10", "cifar100"), ("vgg16", "wrn28-10", "resnet50")))
