"""Encoder weight files: the three namings against independent networks, and every way in which a file can be wrong."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lpd.errors import CheckpointError
from lpd.model.encoder_weights import load_encoder_weights
from lpd.model.encoders import Encoder, batch_norms, build_encoder

DIMS, DEPTHS, HEADS, RATIOS = (8, 16, 20, 32), (1, 2, 1, 1), (1, 2, 5, 8), (8, 4, 2, 1)
OPTIONS = (("depths", DEPTHS), ("embed_dims", DIMS), ("drop_path_rate", 0.0))


class ReferenceMit(nn.Module):
    """The Mix Transformer of the SegFormer paper, written plainly, with the parameter names of NVIDIA's files."""

    def __init__(self) -> None:
        super().__init__()
        for i, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
            kernel, stride, previous = (7, 4, 3) if i == 0 else (3, 2, DIMS[i - 1])
            embed = nn.Module()
            embed.proj = nn.Conv2d(previous, dim, kernel, stride, kernel // 2)
            embed.norm = nn.LayerNorm(dim, eps=1e-5)
            setattr(self, f"patch_embed{i + 1}", embed)
            setattr(
                self, f"block{i + 1}", nn.ModuleList(ReferenceBlock(dim, HEADS[i], RATIOS[i]) for _ in range(depth))
            )
            setattr(self, f"norm{i + 1}", nn.LayerNorm(dim, eps=1e-6))
        self.head = nn.Linear(DIMS[-1], 10)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i in range(1, 5):
            embed = getattr(self, f"patch_embed{i}")
            x = embed.proj(x)
            height, width = x.shape[2:]
            x = embed.norm(x.flatten(2).transpose(1, 2))
            for block in getattr(self, f"block{i}"):
                x = block(x, height, width)
            x = getattr(self, f"norm{i}")(x).transpose(1, 2).unflatten(2, (height, width))
            maps.append(x)
        return maps


class ReferenceBlock(nn.Module):
    def __init__(self, dim: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = nn.Module()
        self.attn.q, self.attn.kv, self.attn.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        if ratio > 1:
            self.attn.sr, self.attn.norm = nn.Conv2d(dim, dim, ratio, ratio), nn.LayerNorm(dim, eps=1e-5)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.mlp.dwconv = nn.Module()
        self.mlp.dwconv.dwconv = nn.Conv2d(4 * dim, 4 * dim, 3, padding=1, groups=4 * dim)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x + self._attend(self.norm1(x), height, width)
        hidden = self.mlp.fc1(self.norm2(x)).transpose(1, 2).unflatten(2, (height, width))
        hidden = self.mlp.dwconv.dwconv(hidden).flatten(2).transpose(1, 2)
        return x + self.mlp.fc2(F.gelu(hidden))

    def _attend(self, x: Tensor, height: int, width: int) -> Tensor:
        source = x
        if hasattr(self.attn, "sr"):
            reduced = self.attn.sr(x.transpose(1, 2).unflatten(2, (height, width)))
            source = self.attn.norm(reduced.flatten(2).transpose(1, 2))
        key, value = self.attn.kv(source).chunk(2, dim=2)
        query, key, value = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (self.attn.q(x), key, value))
        weights = (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).softmax(3)
        return self.attn.proj((weights @ value).transpose(1, 2).flatten(2))


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every tensor non-trivial, so that a swapped or skipped one shows."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.05)  # variances stay positive
    return network.eval()


def tiny_mit(**extra: object) -> Encoder:
    return build_encoder("mit_b0", last_stride=2, options=(*OPTIONS, *extra.items())).eval()


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_same_maps(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) == 4
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("wrapper", ["", "module.", "backbone."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_nvidia_names_reproduce_the_published_network(tmp_path, image, wrapper, container):
    reference = randomised(ReferenceMit())
    tensors = {wrapper + name: value for name, value in reference.state_dict().items()}
    torch.save({container: tensors} if container else tensors, tmp_path / "mit_b0.pth")
    encoder = tiny_mit()
    loaded = load_encoder_weights(encoder, tmp_path / "mit_b0.pth")
    with torch.no_grad():
        assert_same_maps(encoder.double()(image), reference.double()(image))
    assert loaded.layout == "NVIDIA SegFormer"
    assert loaded.left_over == ("head.bias", "head.weight")
    assert "non-commercial" in loaded.describe()
    assert "mit_b0.pth" in loaded.describe()


@pytest.mark.parametrize("headed", [False, True])
def test_hugging_face_files_reproduce_transformers(tmp_path, image, headed):
    transformers = pytest.importorskip("transformers", reason="transformers, the oracle of this test, is not installed")
    config = transformers.SegformerConfig(
        depths=list(DEPTHS), hidden_sizes=list(DIMS), num_attention_heads=list(HEADS), sr_ratios=list(RATIOS)
    )
    kind = transformers.SegformerForImageClassification if headed else transformers.SegformerModel
    model = randomised(kind(config))
    model.save_pretrained(tmp_path)
    encoder = tiny_mit(layer_norm_eps=1e-5)
    loaded = load_encoder_weights(encoder, tmp_path / "model.safetensors")
    oracle = (model.segformer if headed else model).double()
    with torch.no_grad():
        expected = oracle(image, output_hidden_states=True).hidden_states
        assert_same_maps(encoder.double()(image), list(expected))
    assert loaded.layout == "Hugging Face SegFormer"
    assert "non-commercial" in loaded.notice


def test_layer_norm_eps_default_is_nvidias():
    eps = {
        m.eps for n, m in tiny_mit().named_modules() if isinstance(m, nn.LayerNorm) and n.endswith(("norm1", "norm2"))
    }
    assert eps == {1e-6}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenetv2_100", (("pad_type", "same"),)),
        ("convnext_atto", ()),
        ("swin_tiny_patch4_window7_224", (("depths", (1, 1, 2, 1)),)),
        ("vit_tiny_patch16_224", (("depth", 4),)),
    ],
)
def test_timm_names_fill_any_encoder(tmp_path, name, options):
    whole = randomised(timm.create_model(name, **dict(options)))
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    encoder = build_encoder(name, last_stride=0, options=options).eval()
    loaded = load_encoder_weights(encoder, tmp_path / "weights.safetensors")
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = whole.forward_intermediates(image, intermediates_only=True)[-1]
        torch.testing.assert_close(encoder(image)[-1], expected)
    assert loaded.layout == "timm"
    assert loaded.left_over


def test_half_precision_files_are_raised_to_float32(tmp_path):
    tensors = {name: value.half() for name, value in randomised(ReferenceMit()).state_dict().items()}
    save_file(tensors, tmp_path / "half.safetensors")
    encoder = tiny_mit()
    load_encoder_weights(encoder, tmp_path / "half.safetensors")
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    torch.testing.assert_close(encoder.body.patch_embed.proj.weight, tensors["patch_embed1.proj.weight"].float())


def test_real_imagenet_weights_load_strictly_and_freeze_folded_norms(real_data):
    path = real_data / "encoders" / "mobilenetv2_100-imagenet.safetensors"
    encoder = build_encoder("mobilenetv2_100", options=(("pad_type", "same"),))
    loaded = load_encoder_weights(encoder, path)
    assert loaded.batch_norm_frozen
    assert "folded, their statistics stay as loaded" in loaded.describe()
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(encoder.train()(image)[3], encoder.eval()(image)[3])


def break_missing(tensors: dict[str, Tensor]) -> None:
    del tensors["block4.0.norm2.weight"]


def break_shape(tensors: dict[str, Tensor]) -> None:
    tensors["norm1.weight"] = torch.zeros(9)


def break_number(tensors: dict[str, Tensor]) -> None:
    tensors["norm1.weight"][0] = float("nan")


def break_type(tensors: dict[str, Tensor]) -> None:
    tensors["norm1.weight"] = tensors["norm1.weight"].to(torch.complex64)


def break_foreign(tensors: dict[str, Tensor]) -> None:
    tensors["block5.0.norm1.weight"] = torch.zeros(8)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_missing, r"1 of \d+ weights are missing, first stages.3.blocks.0.norm2.weight"),
        (break_shape, r"stages.0.norm.weight is \(9,\) and should be \(8,\)"),
        (break_number, "stages.0.norm.weight that are not finite numbers: download it again"),
        (break_type, "stages.0.norm.weight that are not finite numbers"),
        (break_foreign, "no place for, first stages.4.blocks.0.norm1.weight"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(tmp_path, damage, message):
    tensors = dict(randomised(ReferenceMit()).state_dict())
    damage(tensors)
    torch.save(tensors, tmp_path / "bad.pth")
    encoder = tiny_mit()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_encoder_weights(encoder, tmp_path / "bad.pth")
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


class Malicious:
    """Unpickling this runs code: it would create a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": Malicious(tmp_path / "pwned")}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious(tmp_path / "pwned"), protocol=2))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match="never loaded"):
            load_encoder_weights(tiny_mit(), tmp_path / name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.pth", None),
        ("empty.pth", b""),
        ("text.pth", b"hello"),
        ("text.safetensors", b"hello"),
        ("a.bin", b"PK\3\4"),
    ],
)
def test_unreadable_files_are_one_clear_error(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} .*\w") as caught:
        load_encoder_weights(tiny_mit(), tmp_path / name)
    assert "()" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "state.pth")
    with pytest.raises(CheckpointError, match="not a dictionary of tensors"):
        load_encoder_weights(tiny_mit(), tmp_path / "state.pth")


def test_an_encoder_with_batch_norm_needs_its_statistics(tmp_path):
    encoder = build_encoder("resnet18", maps=1)
    assert batch_norms(encoder)
    tensors = {n: v for n, v in encoder.body.state_dict().items() if not n.endswith("running_mean")}
    save_file(tensors, tmp_path / "r.safetensors")
    with pytest.raises(CheckpointError, match="running_mean"):
        load_encoder_weights(encoder, tmp_path / "r.safetensors")
    complete = {n: v for n, v in encoder.body.state_dict().items() if not n.endswith("num_batches_tracked")}
    save_file(complete, tmp_path / "r.safetensors")
    assert load_encoder_weights(encoder, tmp_path / "r.safetensors").left_over == ()
