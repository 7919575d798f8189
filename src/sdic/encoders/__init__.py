"""Encoders: images to latents w+. Each takes images [N,3,256,256] and gives [N,S,512]."""

from sdic.encoders.e4e import E4EEncoder
from sdic.encoders.irse import IRSE50, Bottleneck
from sdic.encoders.latent_discriminator import LatentDiscriminator

__all__ = ["IRSE50", "Bottleneck", "E4EEncoder", "LatentDiscriminator"]
