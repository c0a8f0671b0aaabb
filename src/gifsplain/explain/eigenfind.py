"""EigenFind: a few directions of the decoder's own geometry, ranked by what they do to the score (Atad et al. 2022).

In a StyleGAN they are the right singular vectors of the stacked affine weights, the map from W to style space. For any
other autoencoder they are the right singular vectors of the decoder's Jacobian at the mean latent.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gifsplain.models.protocols import Autoencoder
from gifsplain.models.styleex import StyleModel


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

    Subspace iteration on J^T J by products only: the Jacobian is never formed (Halko et al. 2011).
    """
    shape, size = latent.shape, latent.numel()
    count = min(count, size)
    basis = torch.randn(size, count, generator=torch.Generator().manual_seed(seed)).to(latent)
    for _ in range(rounds):
        basis = torch.linalg.qr(basis)[0]
        basis = torch.stack([_gram_product(autoencoder, latent, basis[:, k].reshape(shape)) for k in range(count)], 1)
    vectors = torch.linalg.qr(basis)[0]
    images = torch.stack([_image_change(autoencoder, latent, vectors[:, k].reshape(shape)) for k in range(count)], 1)
    turn = torch.linalg.svd(images, full_matrices=False)[2]
    turned: Tensor = vectors @ turn.T
    return turned.T.reshape(count, *shape)


def _image_change(autoencoder: Autoencoder, latent: Tensor, direction: Tensor) -> Float[Tensor, " p"]:
    """J v: derivative of the picture along a latent direction."""
    moved: Tensor = torch.autograd.functional.jvp(lambda z: autoencoder.decode(z[None]), latent, direction)[1]
    return moved.flatten()


def _gram_product(autoencoder: Autoencoder, latent: Tensor, direction: Tensor) -> Float[Tensor, " d"]:
    """J^T J v."""
    change = _image_change(autoencoder, latent, direction)
    free = latent.detach().requires_grad_(True)
    (back,) = torch.autograd.grad((autoencoder.decode(free[None]).flatten() * change).sum(), free)
    return back.flatten()
