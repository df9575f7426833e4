"""Masking in other people's trainers: a module for each library, imported by those who use that library.

from sparselearning.callbacks.transformers import MaskingCallback    # for the Trainer of Hugging Face
from sparselearning.callbacks.lightning import MaskingCallback       # for the Trainer of Lightning
"""
