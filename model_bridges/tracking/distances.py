"""Squared distances between the denoisers of one batch, all from one Gram matrix per image.

Rows are the K class denoisers, then the clean image, then the unconditional denoiser where there is
one; all have lost the same term `skip x`. Any distance is `|sum_j a_j R_j|^2 = a^T G a` with weights
that sum to 0, so the common part of the rows never enters. With p the class posterior,

    sum_g p_g |D_g - Dbar|^2,    D_g = sum_{k in g} p(k|x,g) D_k,    Dbar = sum_k p_k D_k

is the spread that the decision between the groups g of classes leaves. Sums over the entries of a
state, in its squared units.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.partitions import Partition


def gram(rows: Float[Tensor, "J B *event"], num_classes: int) -> Float[Tensor, "B J J"]:
    """Inner products of the rows of each image, relative to the average of its classes."""
    flat = rows.flatten(2)
    centred = (flat - flat[:num_classes].mean(0)).transpose(0, 1)
    return centred @ centred.mT


def distance(
    gram: Float[Tensor, "B J J"], weights: Float[Tensor, "B J"], other: Float[Tensor, "B J"]
) -> Float[Tensor, " B"]:
    """`|sum_j (w_j - o_j) R_j|^2`, both weights summing to 1."""
    contrast = weights - other
    return (contrast * (gram @ contrast[..., None])[..., 0]).sum(-1).clamp(min=0)


def spread(
    gram: Float[Tensor, "B J J"], log_posterior: Float[Tensor, "B K"], partition: Partition
) -> Float[Tensor, " B"]:
    """`sum_g p_g |D_g - Dbar|^2`, the groups given by a partition of the K classes."""
    num_classes = log_posterior.shape[1]
    gram = gram[:, :num_classes, :num_classes]
    posterior = log_posterior.exp()
    if partition.is_trivial:
        mean = (gram @ posterior[..., None])[..., 0]
        centre = (posterior * mean).sum(-1, keepdim=True)
        # |D_k - Dbar|^2 = G_kk - 2 (G p)_k + p^T G p
        squares = gram.diagonal(dim1=1, dim2=2) - 2 * mean + centre
        return (posterior * squares.clamp(min=0)).sum(-1)
    labels = torch.tensor(partition.labels, device=gram.device)
    total = torch.zeros_like(posterior[:, 0])
    for group in range(partition.num_classes):
        members = torch.where(labels == group, log_posterior, -torch.inf)
        share = torch.softmax(members, -1).nan_to_num(0.0)  # a group of weight 0 has no share
        total += members.exp().sum(-1) * distance(gram, share, posterior)
    return total
