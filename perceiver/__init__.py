"""Multimodal Perceivers: one latent array reads pictures, sound and text, and shows how it combined them."""

from perceiver.models import PerceiverIO
