"""Losses as pure functions on tensors."""
from cl_lib.losses.contrastive import clip, contrast, dcl, debiased, hard_negative, info_nce, nt_xent, sup_con

__all__ = ["clip", "contrast", "dcl", "debiased", "hard_negative", "info_nce", "nt_xent", "sup_con"]
