"""utils.export: the network of a ticket in files that others run, and that compute the same."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import build
from sparselearning.layers import maskable_weights
from sparselearning.tickets import packed, read
from tests.commands import refused_by, run_command
from tests.hub import standing_in
from utils.export import METADATA, difference, main
from utils.run_folder.tickets import save_ticket

ABOUT = {"data": "digits", "model": "resnet20", "width": 0.25}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Sparse, with batch-norm statistics of some use."""
    torch.manual_seed(0)
    model = build("resnet20", 10, 0.25)
    for weight in maskable_weights(model).values():
        weight.data[torch.rand(weight.shape) > 0.2] = 0
    model(torch.randn(8, 3, 32, 32))
    return model.eval()


@pytest.fixture
def ticket(tmp_path: Path, model: nn.Module) -> Path:
    save_ticket(tmp_path / "ticket.safetensors", model.state_dict(), ABOUT)
    return tmp_path / "ticket.safetensors"


def needs_onnx() -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(7))


def check(outputs: Tensor, model: nn.Module, given: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(outputs, model(given), rtol=1e-4, atol=1e-4)


def test_onnx_takes_any_batch_and_says_how_to_feed_it(ticket, model, capsys):
    needs_onnx()
    import onnxruntime

    run_command(main, "--ticket", ticket)
    session = onnxruntime.InferenceSession(ticket.with_name("ticket.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        (logits,) = session.run(["logits"], {"images": images(count).numpy()})
        check(torch.from_numpy(logits), model, images(count))
    said = session.get_modelmeta().custom_metadata_map
    assert (said["mean"], said["std"], said["classes"]) == ("0.3054 0.3054 0.3054", "0.3237 0.3237 0.3237", "10")
    out = capsys.readouterr().out
    assert "opset 18, resnet20, 10 classes" in out and "float32 (N, 3, 32, 32)" in out and said["mean"] in out


def test_pt2_takes_any_batch_and_says_how_to_feed_it(ticket, model, capsys):
    packed_file = ticket.with_name("small.packed.safetensors")
    packed_file.write_bytes(packed(*read(ticket)))
    run_command(main, "--ticket", packed_file, "--to", "pt2")
    extra = {METADATA: ""}
    program = torch.export.load(ticket.with_name("small.pt2"), extra_files=extra)
    for count in (1, 5):
        check(program.module()(images(count)), model, images(count))
    assert json.loads(extra[METADATA])["mean"] == "0.3054 0.3054 0.3054"
    assert "torch.export" in capsys.readouterr().out


def test_a_batch_size_that_is_given_is_the_only_one(ticket, capsys):
    run_command(main, "--ticket", ticket, "--to", "pt2", "--batch-size", 1)
    program = torch.export.load(ticket.with_name("ticket.pt2")).module()
    assert program(images(1)).shape == (1, 10) and "(1, 3, 32, 32)" in capsys.readouterr().out
    with pytest.raises((AssertionError, RuntimeError)):
        program(images(5))


def test_a_ticket_of_the_hub_is_exported_here(ticket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with standing_in(tmp_path / "cache") as hub:
        hub.commit("someone/tiny", {"ticket.safetensors": ticket.read_bytes()})
        run_command(main, "--ticket", "hf://someone/tiny", "--to", "pt2", "--batch-size", 1)
    assert (tmp_path / "tiny.pt2").exists()


def test_a_difference_is_seen(model):
    assert difference(model, model, 32, [1, 5]) == 0
    assert difference(lambda x: model(x) * 1.001, model, 32, [1, 5]) == pytest.approx(1e-3, rel=0.01)


def test_what_computes_something_else_is_not_kept(ticket, monkeypatch):
    monkeypatch.setattr("utils.export.difference", lambda *_: 0.01)
    line = refused_by(main, "--ticket", ticket, "--to", "pt2", "--batch-size", 1)
    assert "would differ by 1.0e-02" in line and [*ticket.parent.iterdir()] == [ticket]


def test_what_is_wrong_is_one_line_and_writes_nothing(ticket, tmp_path):
    refused = partial(refused_by, main, "--to", "pt2", "--ticket")
    assert "there is no ticket" in refused(tmp_path / "none")
    assert "no vgg16 has its tensors" in refused(ticket, "--model", "vgg16")
    assert "unknown --data mnist" in refused(ticket, "--data", "mnist")
    assert "give one, or dynamic" in refused(ticket, "--batch-size", "many")
    assert "cannot be written" in refused(ticket, "--output", tmp_path / "none/x.pt2")
    bare = tmp_path / "bare.safetensors"
    save_ticket(bare, read(ticket)[0], {"width": 0.25})
    assert "add --model" in refused(bare) and "add --data" in refused(bare, "--model", "resnet20")
    assert sorted(tmp_path.iterdir()) == sorted([bare, ticket])
    save_ticket(bare, read(ticket)[0], {**ABOUT, "efficient_ensemble": "mimo 3 0.0"})
    assert "MIMO of 3, which has no such form" in refused(bare)
    (tmp_path / "ticket.pt2").touch()
    assert "exists: give another --output, or --overwrite" in refused(ticket)


def test_onnx_without_its_libraries_is_one_line(ticket, monkeypatch):
    monkeypatch.setattr("utils.export.find_spec", lambda name: None)
    line = refused_by(main, "--ticket", ticket)
    assert line.endswith("--to onnx needs onnx and onnxscript: pip install onnx onnxscript\n")


def test_versions_that_do_not_go_together_are_one_line(ticket, monkeypatch):
    needs_onnx()

    def fails(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("a page of words\nand another")

    monkeypatch.setattr(torch.onnx, "export", fails)
    line = refused_by(main, "--ticket", ticket)
    assert f"no ONNX by torch {torch.__version__.split('+')[0]}" in line and "or --to pt2" in line
    assert [*ticket.parent.iterdir()] == [ticket]
