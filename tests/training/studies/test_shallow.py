"""Shallow methods learn real digits, and say so in one line where scikit-learn is missing."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from stoker.training.studies import shallow

PIXELS = (load_digits().images * 255 / 16).astype(np.uint8).repeat(4, 1).repeat(4, 2)[..., None]
CLASSES = load_digits().target


@pytest.mark.parametrize("features", ["pixels", "hog"])
@pytest.mark.parametrize("name", shallow.METHODS)
def test_a_method_learns_and_says_how_much_it_keeps(name: str, features: str) -> None:
    train, test = (shallow.features_of(images, features) for images in (PIXELS[:600], PIXELS[600:900]))
    model = shallow.METHODS[name](600, 0).fit(train, CLASSES[:600])
    assert (shallow.predict(model, test) == CLASSES[600:900]).mean() > 0.85
    assert shallow.parameters_of(model) > 1000


def test_many_samples_have_an_approximated_kernel() -> None:
    rows = shallow.features_of(PIXELS, "pixels")
    model = shallow.rbf_svm(20_001, 0).fit(rows[:1200], CLASSES[:1200])
    assert "nystroem" in model.named_steps
    assert (shallow.predict(model, rows[1200:]) == CLASSES[1200:]).mean() > 0.85


def test_histograms_of_gradients_do_not_depend_on_brightness_and_do_on_orientation() -> None:
    ramp = np.tile(np.arange(32, dtype=np.uint8), (32, 1))[None, ..., None]
    flat, brighter, turned = (shallow.features_of(image, "hog") for image in (ramp, ramp + 90, ramp.swapaxes(1, 2)))
    assert np.allclose(flat, brighter, atol=1e-5)
    assert not np.allclose(flat, turned, atol=0.1)


def test_without_scikit_learn_one_line_says_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from stoker.training.studies.shallow import require_sklearn\n"
        "from stoker.storage.errors import StokerError\n"
        "try:\n    require_sklearn()\nexcept StokerError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == 'shallow methods need scikit-learn, which is not installed; pip install "stoker[train]"\n'
