"""A linear probe: the latent direction along which a ridge regression predicts the score (Schutte et al. 2020)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.errors import InputError

Kind = Literal["ridge", "logistic"]


def probe_direction(
    latents: Float[Tensor, "n ..."], logits: Float[Tensor, " n"], *, kind: Kind = "ridge", penalty: float = 1.0
) -> Float[Tensor, "..."]:
    """Unit direction of steepest rise of a regularised linear prediction of the score; zero for a constant score.

    Latents are standardised before the regression and the weights taken back after it; without both, weights point
    along axes of tiny variance and change no picture. `logistic` predicts the sign of the logit, `ridge` the logit.

    Args:
        latents: Of at least four images.
        logits: Score of each, as log-odds.
        kind: What is regressed.
        penalty: Of the squared weights, in units of the number of images.
    """
    if len(latents) < 4:
        raise InputError(f"a probe needs at least 4 images, got {len(latents)}; give a larger selection set")
    flat = latents.flatten(1).double()
    spread = flat.std(0).clamp_min(1e-12)
    features = (flat - flat.mean(0)) / spread
    weights = _ridge(features, logits.double(), penalty) if kind == "ridge" else _logistic(features, logits, penalty)
    # x = mean + spread * u: the step that raises w . u most, for latents of this spread, is spread * w
    direction = (weights * spread).to(latents.dtype)
    unit: Tensor = direction / direction.norm().clamp_min(torch.finfo(direction.dtype).tiny)
    return unit.reshape(latents.shape[1:])


def _ridge(features: Float[Tensor, "n d"], wanted: Float[Tensor, " n"], penalty: float) -> Float[Tensor, " d"]:
    """Solved in the smaller of the two spaces, n or d."""
    n, d = features.shape
    centred = wanted - wanted.mean()
    if d <= n:
        gram = features.T @ features + penalty * n * torch.eye(d, dtype=features.dtype, device=features.device)
        direct: Tensor = torch.linalg.solve(gram, features.T @ centred)
        return direct
    kernel = features @ features.T + penalty * n * torch.eye(n, dtype=features.dtype, device=features.device)
    through_images: Tensor = features.T @ torch.linalg.solve(kernel, centred)
    return through_images


def _logistic(features: Float[Tensor, "n d"], logits: Float[Tensor, " n"], penalty: float) -> Float[Tensor, " d"]:
    from sklearn.linear_model import LogisticRegression

    present = (logits > 0).cpu().numpy()
    if present.all() or not present.any():
        raise InputError("a logistic probe needs images on both sides of the decision; use kind='ridge'")
    model = LogisticRegression(C=1 / (penalty * len(present)), max_iter=1000).fit(features.cpu().numpy(), present)
    return torch.from_numpy(model.coef_[0]).to(features)
