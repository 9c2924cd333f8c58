"""Trains the two digit classifiers with PyTorch and stores what the tests compare with.

Data: the 1,797 handwritten digits (8x8) that scikit-learn ships, from the UCI repository
(E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", CC BY 4.0). The first 1,257
train, the other 540 test. Needs torch, scikit-learn, safetensors.

Writes Graphs/digits_{mlp,cnn}_weights.safetensors, Graphs/digits_test.npz (images, labels) and
Graphs/digits_{mlp,cnn}_expected.npz (PyTorch's logits).
"""
import os

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

OUT = os.path.join(os.path.dirname(__file__), "..", "Graphs")
SPLIT = 1257


class MLP(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.l2 = torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.l2(torch.relu(self.l1(x.flatten(1))))

    def weights(self):
        return {"W1": self.l1.weight, "b1": self.l1.bias, "W2": self.l2.weight, "b2": self.l2.bias}


class CNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = torch.nn.Conv2d(1, 16, 3, padding=1)
        self.c2 = torch.nn.Conv2d(16, 32, 3, padding=1)
        self.l1 = torch.nn.Linear(128, 10)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(torch.relu(self.c1(x)), 2)
        x = torch.nn.functional.max_pool2d(torch.relu(self.c2(x)), 2)
        return self.l1(x.flatten(1))

    def weights(self):
        return {"K1": self.c1.weight, "b1": self.c1.bias, "K2": self.c2.weight, "b2": self.c2.bias,
                "W": self.l1.weight, "b": self.l1.bias}


def main():
    torch.set_num_threads(1)
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int32)
    x, y = torch.tensor(images[:SPLIT]), torch.tensor(labels[:SPLIT]).long()
    np.savez_compressed(os.path.join(OUT, "digits_test.npz"), images=images[SPLIT:], labels=labels[SPLIT:])
    for name, make in (("mlp", MLP), ("cnn", CNN)):
        torch.manual_seed(7)
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
        for _ in range(60):
            for batch in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            logits = model(torch.tensor(images[SPLIT:]))
        accuracy = (logits.argmax(1).numpy() == labels[SPLIT:]).mean()
        print(name, "accuracy on the last 540:", accuracy)
        save_file({k: v.detach().contiguous() for k, v in model.weights().items()},
                  os.path.join(OUT, f"digits_{name}_weights.safetensors"))
        np.savez_compressed(os.path.join(OUT, f"digits_{name}_expected.npz"), logits=logits.numpy())


if __name__ == "__main__":
    main()
