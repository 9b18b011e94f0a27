"""Losses as pure functions on tensors."""
from cl_lib.losses.contrastive import clip, contrast, dcl, debiased, hard_negative, info_nce, nt_xent, siglip, sup_con

__all__ = ["clip", "contrast", "dcl", "debiased", "hard_negative", "info_nce", "nt_xent", "siglip", "sup_con"]
