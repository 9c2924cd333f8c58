"""Writes Graphs/digits.npz: all 1,797 handwritten digits that scikit-learn ships, as the file has them.

Data: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, CC BY 4.0.
x [1797, 64] holds the 8x8 pixels, 0...16, y [1797] the digits, both uint8. Needs scikit-learn.
"""
import os

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
x, y = digits.data.astype(np.uint8), digits.target.astype(np.uint8)
assert (x == digits.data).all() and x.max() == 16
np.savez_compressed(os.path.join(os.path.dirname(__file__), "..", "Graphs", "digits.npz"), x=x, y=y)
