"""The compiled decoder against `transformer.forward` in float64, for sizes that fill its loops and that do not."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

from spo.errors import UserError
from spo.policy import compiled, pages, transformer
from spo.policy.passes import Passes
from spo.policy.sampling import choose
from spo.policy.transformer import Geometry
from spo.types import Sampling


def geometry(hidden_size, heads, kv_heads, head_size, words=23, tied=True):
    return Geometry(hidden_size, 2, heads, kv_heads, head_size, words, 1e4, 1e-6, tied, 64)


#: The laptop study's; the smoke overlay's; those of Qwen2.5-0.5B and 1.5B; others, with sizes that divide nothing.
GEOMETRIES = {
    "laptop": (geometry(128, 4, 1, 32, 230), 384),
    "smoke": (geometry(32, 2, 1, 16), 64),
    "half": (geometry(64, 14, 2, 64, tied=False), 70),
    "larger": (geometry(40, 12, 2, 128), 33),
    "no_groups": (geometry(96, 3, 3, 80, 65), 97),
    "wide_group": (geometry(36, 32, 2, 8, 31), 17),
}


def weights_of(geo, inner, bias=True):
    generator = torch.Generator().manual_seed(0)
    sizes = {"q": geo.heads, "k": geo.kv_heads, "v": geo.kv_heads}
    shapes = {"model.embed_tokens.weight": (geo.vocabulary_size, geo.hidden_size), "model.norm.weight": (1,)}
    for layer in range(geo.layers):
        at = f"model.layers.{layer}"
        for name, heads in sizes.items():
            shapes[f"{at}.self_attn.{name}_proj.weight"] = (heads * geo.head_size, geo.hidden_size)
            if bias:
                shapes[f"{at}.self_attn.{name}_proj.bias"] = (heads * geo.head_size,)
        shapes[f"{at}.self_attn.o_proj.weight"] = (geo.hidden_size, geo.heads * geo.head_size)
        shapes |= {f"{at}.mlp.{name}_proj.weight": (inner, geo.hidden_size) for name in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (geo.hidden_size, inner)
        shapes |= {f"{at}.{name}_layernorm.weight": (1,) for name in ("input", "post_attention")}
    if not geo.tied:
        shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {
        name: w / w.shape[1] ** 0.5 if w.ndim == 2 else w.expand(geo.hidden_size) + 1 if len(w) == 1 else w
        for name, w in weights.items()
    }


def kernels(geo):
    found = compiled.kernels(geo)
    if found is None and os.environ.get("SPO_REQUIRE_COMPILER"):
        pytest.fail("SPO_REQUIRE_COMPILER is set, but no C compiler works here")
    if found is None:
        pytest.skip("no C compiler works here")
    return found


@pytest.fixture(autouse=True)
def chosen(monkeypatch):
    monkeypatch.setenv("SPO_SAMPLER", "auto")
    yield
    compiled._kernels.cache_clear()


@pytest.fixture(params=["native", "avx2", "sse"])
def instructions(request, monkeypatch):
    """Other processors' instructions, where this one has them too."""
    if request.param != "native":
        if platform.machine() != "x86_64":
            pytest.skip("needs an x86 processor")
        lesser = {"avx2": ("-march=haswell",), "sse": ("-march=x86-64",)}[request.param]
        monkeypatch.setattr(compiled, "FLAGS", (*(f for f in compiled.FLAGS if f != "-march=native"), *lesser))
    compiled._kernels.cache_clear()


def logits_of(passes, ids):
    """After the last of `ids` (B, L), a pass a column: each row has 3 tokens on its first page, and then full ones."""
    count, length = ids.shape
    fresh = passes.pool.take(count * length).reshape(count, -1).tolist()
    sizes = [3] + [compiled.PAGE_TOKENS] * length
    whole = pages.chains([(row, sizes[: len(row)]) for row in fresh])
    for at in range(length):
        read = pages.truncate(whole, np.full(count, at + 1))
        logits = passes.logits(ids[:, at].copy(), np.full(count, at), read)
    return logits


@pytest.mark.parametrize("name", GEOMETRIES)
def test_logits_are_those_of_the_whole_pass(name, instructions):
    geo, inner = GEOMETRIES[name]
    weights = weights_of(geo, inner, bias=name != "half")
    passes = Passes(kernels(geo), weights, geo)
    passes.make_room(40, 128)
    ids = np.random.default_rng(1).integers(0, geo.vocabulary_size, (2 + 100 * (name == "laptop"), 21))
    double = {key: weight.double() for key, weight in weights.items()}
    hidden, _ = transformer.forward(double, geo, torch.from_numpy(ids))
    expected = transformer.logits(double, geo, hidden[:, -1])
    ours = logits_of(passes, ids)[:, : geo.vocabulary_size]
    torch.testing.assert_close(ours.double(), expected, atol=5e-5, rtol=1e-5)


def test_a_row_has_the_same_bits_in_any_batch():
    geo, inner = GEOMETRIES["laptop"]
    weights = weights_of(geo, inner)
    ids = np.random.default_rng(2).integers(0, geo.vocabulary_size, (131, 30))
    rows = []
    for part in (ids, ids[7:8], ids[3:20]):
        passes = Passes(kernels(geo), weights, geo)
        passes.make_room(40, 200)
        rows.append(logits_of(passes, part))
    assert torch.equal(rows[0][7:8], rows[1]) and torch.equal(rows[0][3:20], rows[2])


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
def test_tokens_are_drawn_as_everywhere(temperature):
    geo, inner = GEOMETRIES["laptop"]
    passes = Passes(kernels(geo), weights_of(geo, inner), geo)
    generator, rng = torch.Generator().manual_seed(3), np.random.default_rng(3)
    logits = torch.randn(4000, 256, generator=generator) * 5
    logits[0, :230] = 0.0  # at temperature 0 the first of equals
    logits[1, 5] = 1000.0
    logits[2, :230] = -1000.0
    uniform = rng.random(4000)
    uniform[:2] = [0.0, 1 - 2**-53]
    expected = choose(logits[:, :230].double(), Sampling(temperature), uniform)
    ids, logprobs = passes.draw(logits.clone(), Sampling(temperature), uniform)
    # A number may fall so near the border of two tokens that rounding decides.
    same = ids == expected[0].numpy()
    assert same.mean() > 0.999
    np.testing.assert_allclose(logprobs[same], expected[1].numpy()[same], atol=1e-5, rtol=1e-6)


def test_plain_uses_no_compiler(monkeypatch):
    monkeypatch.setenv("SPO_SAMPLER", "plain")
    assert compiled.kernels(GEOMETRIES["laptop"][0]) is None


def test_an_unheard_of_choice_is_one_line(monkeypatch):
    monkeypatch.setenv("SPO_SAMPLER", "fast")
    with pytest.raises(UserError, match="SPO_SAMPLER: fast: must be one of auto, compiled, plain"):
        compiled.kernels(GEOMETRIES["laptop"][0])


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_there_is_pytorch(monkeypatch, tmp_path, compiler):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(compiled, "COMPILERS", ())
    compiled._kernels.cache_clear()
    geo = GEOMETRIES["laptop"][0]
    assert compiled.kernels(geo) is None
    monkeypatch.setenv("SPO_SAMPLER", "compiled")
    with pytest.raises(UserError, match="SPO_SAMPLER: compiled: no C compiler works here"):
        compiled.kernels(geo)
    assert not list(tmp_path.rglob("*.so"))


def test_a_library_is_compiled_once_for_good(monkeypatch, tmp_path):
    geo = replace(GEOMETRIES["laptop"][0], head_size=24)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels(geo)
    (made,) = (tmp_path / "spo").iterdir()
    monkeypatch.setattr(compiled, "COMPILERS", ())
    monkeypatch.delenv("CC", raising=False)
    compiled._kernels.cache_clear()
    assert compiled.kernels(geo) is not None
    assert list((tmp_path / "spo").iterdir()) == [made]


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache folder, and a geometry whose library no other test has loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    geo = replace(GEOMETRIES["laptop"][0], head_size=40)
    kernels(geo)
    compiled._kernels.cache_clear()
    (made,) = (tmp_path / "spo").iterdir()
    return geo, made


def refuse(monkeypatch, refused) -> None:
    """Loading fails where `refused(path)` is true, as on a file system that is mounted with noexec."""
    real = ctypes.CDLL

    def load(path):
        if refused(path):
            raise OSError(f"{path}: failed to map segment from shared object")
        return real(path)

    monkeypatch.setattr(ctypes, "CDLL", load)


def test_kernels_of_a_user_without_home_or_name_are_compiled_without_a_cache(monkeypatch, fresh):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compiled.Path, "home", nobody)
    assert compiled.kernels(fresh[0]) is not None


def test_kernels_are_compiled_elsewhere_if_the_cache_may_not_be_loaded_from(monkeypatch, fresh):
    geo, made = fresh
    refuse(monkeypatch, lambda path: str(made.parent) in path)
    assert compiled.kernels(geo) is not None


def test_kernels_are_optional_if_nothing_may_be_loaded(monkeypatch, fresh):
    refuse(monkeypatch, lambda path: True)
    assert compiled.kernels(fresh[0]) is None
    monkeypatch.setenv("SPO_SAMPLER", "compiled")
    with pytest.raises(UserError, match="what it makes cannot be loaded. Install gcc or clang, set XDG_CACHE_HOME"):
        compiled.kernels(fresh[0])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_a_damaged_library_is_made_anew(fresh, share):
    geo, made = fresh
    whole = made.read_bytes()
    made.unlink()
    made.write_bytes(whole[: int(share * len(whole))])
    made.chmod(0o700)
    assert compiled.kernels(geo) is not None
    assert len(made.read_bytes()) == len(whole)


def test_a_library_without_our_functions_is_made_anew(fresh):
    geo, made = fresh
    made.unlink()
    compiler = next(filter(None, map(shutil.which, compiled.COMPILERS)))
    subprocess.run([compiler, "-shared", "-x", "c", "-", "-o", str(made)], input=b"int other;", check=True)
    made.chmod(0o700)
    assert compiled.kernels(geo) is not None


def test_what_others_may_write_to_is_made_anew(monkeypatch, fresh):
    """Whoever may write to it could have anything run."""
    geo, made = fresh
    made.chmod(0o777)
    made.parent.chmod(0o777)
    seen = []
    refuse(monkeypatch, lambda path: seen.append(path))
    before = made.stat().st_ino
    assert compiled.kernels(geo) is not None
    assert str(made) not in seen and made.stat().st_ino != before
    assert made.stat().st_mode & 0o777 == made.parent.stat().st_mode & 0o777 == 0o700


def test_what_belongs_to_another_user_is_not_loaded(monkeypatch, fresh):
    geo, made = fresh
    monkeypatch.setattr(os, "getuid", lambda: made.stat().st_uid + 1)
    seen = []
    refuse(monkeypatch, lambda path: seen.append(path))
    assert compiled.kernels(geo) is not None
    assert not [path for path in seen if str(made.parent) in path]


def test_a_cache_that_cannot_be_made_is_done_without(monkeypatch, fresh, tmp_path):
    geo, _ = fresh
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiled.kernels(geo) is not None
