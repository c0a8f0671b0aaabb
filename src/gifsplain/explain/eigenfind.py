"""EigenFind: a few directions of the decoder's own geometry, ranked by what they do to the score (Atad et al. 2022).

In a StyleGAN they are the right singular vectors of the stacked affine weights, the map from W to style space. For any
other autoencoder they are the right singular vectors of the decoder's Jacobian at the mean latent.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.models.protocols import Autoencoder
from gifsplain.models.styleex import StyleModel

CHUNK = 10
"""Directions that pass the decoder together."""


def eigen_directions(matrix: Float[Tensor, "s d"], count: int = 20) -> Float[Tensor, "k d"]:
    """Orthonormal directions of W that change the styles most, largest first (Shen and Zhou 2021, eq. 6)."""
    rows: Tensor = torch.linalg.svd(matrix.double(), full_matrices=False)[2][:count]
    return rows.to(matrix.dtype)


def style_directions(model: StyleModel, count: int = 20, *, normalize_rows: bool = False) -> Float[Tensor, "k d"]:
    """The directions of a StyleEx in W; `normalize_rows` weighs all style coordinates alike."""
    return eigen_directions(model.affine_matrix(normalize_rows=normalize_rows), count)


def jacobian_directions(
    autoencoder: Autoencoder, latent: Float[Tensor, "..."], count: int = 20, *, rounds: int = 3, seed: int = 0
) -> Float[Tensor, "k ..."]:
    """Orthonormal latent directions that change the drawn picture most at `latent`, largest first.

    Subspace iteration on J^T J by products only: the Jacobian is never formed (Halko et al. 2011). All directions of a
    round pass the decoder together, `CHUNK` at once.
    """
    shape, size = latent.shape, latent.numel()
    count = min(count, size)
    basis = torch.randn(count, size, generator=torch.Generator().manual_seed(seed)).to(latent)
    for _ in range(rounds):
        basis = torch.linalg.qr(basis.T)[0].T
        parts = [_gram_products(autoencoder, latent, part.reshape(-1, *shape)) for part in basis.split(CHUNK)]
        basis = torch.cat(parts)
    vectors = torch.linalg.qr(basis.T)[0].T
    changes = [_image_changes(autoencoder, latent, part.reshape(-1, *shape)) for part in vectors.split(CHUNK)]
    turn: Tensor = torch.linalg.svd(torch.cat(changes).T, full_matrices=False)[2]
    turned: Tensor = turn @ vectors
    return turned.reshape(count, *shape)


def _image_changes(
    autoencoder: Autoencoder, latent: Tensor, directions: Float[Tensor, "k ..."]
) -> Float[Tensor, "k p"]:
    """J v for each direction: the derivative of the picture along it.

    J v is the derivative by u of (J^T u) v, which is linear in u: two backward passes, and no operation of the decoder
    needs forward-mode rules.
    """
    points = latent.detach().expand(len(directions), *latent.shape).clone().requires_grad_(True)
    drawn = autoencoder.decode(points).flatten(1)
    dual = torch.zeros_like(drawn, requires_grad=True)
    (pulled,) = torch.autograd.grad(drawn, points, dual, create_graph=True)
    (changes,) = torch.autograd.grad(pulled, dual, directions)
    found: Tensor = changes.detach()
    return found


def _gram_products(
    autoencoder: Autoencoder, latent: Tensor, directions: Float[Tensor, "k ..."]
) -> Float[Tensor, "k d"]:
    """J^T J v for each direction."""
    changes = _image_changes(autoencoder, latent, directions)
    points = latent.detach().expand(len(directions), *latent.shape).clone().requires_grad_(True)
    (back,) = torch.autograd.grad(autoencoder.decode(points).flatten(1), points, changes)
    found: Tensor = back.flatten(1)
    return found
