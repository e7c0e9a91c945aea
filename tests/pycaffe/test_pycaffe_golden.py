"""Every golden case through pycaffe's Net, as the script that made them ran it in the real pycaffe."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from difference import Difference
from golden_limits import wrong
from harness import Case, cases

from rmpe_legacy import pycaffe as caffe
from rmpe_legacy.pycaffe.settings import current


class PycaffeCase(Case):
    """One folder of goldens, run through blobs that are written into and read."""

    def load(self) -> caffe.Net:
        self.broken_promises = []
        if "seed" in self.meta:
            caffe.set_random_seed(self.meta["seed"])
        weights = self.folder / self.meta["weights"] if self.meta.get("weights") else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the weights file has nothing for")
            warnings.filterwarnings("ignore", "filler 'file'")
            return caffe.Net(self.folder / "net.prototxt", getattr(caffe, self.phase), level=self.meta.get("level", 0),
                             stages=self.meta.get("stages", ()), weights=weights)

    def differences(self) -> Iterator[Difference]:
        net = self.load()
        if self.type == "MemoryData":
            net.set_input_arrays(self.data.pop("in_data"), self.data.pop("in_label"))
        steps = sorted({int(k[4 : k.index("_")]) for k in self.data if k.startswith("step")})
        for step in steps or [None]:
            prefix = "" if step is None else f"step{step}_"
            for name, value in self._named(f"{prefix}in_"):
                net.blobs[name].reshape(*value.shape)
                net.blobs[name].data[...] = value
            for _ in range(self.meta["n_forward"] if step is None else 1):
                net.forward()
            yield from self._arrays(f"{prefix}blob_", lambda name: net.blobs[name].data)
        yield from self._arrays("paramafter_", lambda key: _parameter(net, key).data)
        if self.meta.get("backward"):
            yield from self._run_backward(net)

    def _run_backward(self, net: caffe.Net) -> Iterator[Difference]:
        net.clear_param_diffs()
        for name, value in self._named("topdiff_"):
            net.blobs[name].diff[...] = value
        net.backward()
        for name, want in self._named("diff_"):
            if not self._is_scratch(net.torch, name):
                yield self._difference(f"diff_{name}", want, net.blobs[name].diff)
        for key, want in self._named("pdiff_"):
            yield self._difference(f"pdiff_{key}", want, _parameter(net, key).diff.reshape(want.shape))

    def _arrays(self, prefix: str, of) -> Iterator[Difference]:
        for name, want in self._named(prefix):
            yield self._difference(prefix + name, want, of(name).copy())  # the next forward writes into the array


def _parameter(net: caffe.Net, key: str):
    layer, index = key.rsplit("_", 1)
    return net.params[layer][int(index)]


@pytest.fixture(autouse=True)
def _settings():
    before = dict(vars(current))
    yield
    vars(current).update(before)


@pytest.mark.parametrize("folder", cases("layers", "variants", "detection"), ids=lambda path: path.name)
def test_gives_what_caffe_gave(folder: Path, tmp_path: Path):
    case = PycaffeCase(folder)
    caffe.configure(dialect=case.dialect)
    found = case.compare(tmp_path)
    assert found, "the case compares nothing"
    sentences = [sentence for difference in found for sentence in wrong(case, difference)]
    assert not sentences, "not what Caffe gave:\n" + "\n".join(sentences)
