#!/usr/bin/env python3
"""Trains with dlc and with the libraries that it is measured against, and prints the table of the README.

    python3 -m venv VENV && VENV/bin/pip install "torch==2.13.0+cpu" scikit-learn numpy safetensors
    swift build -c release --product dlc
    VENV/bin/python Tools/evidence.py [part ...]          parts: digits, characters, iris; all by default

Digits: the 1,797 images that scikit-learn ships; the first 1,257 train, the other 540 test. Characters:
the GNU GPL version 3, which every Debian has in /usr/share/common-licenses and which may be copied. Both
libraries start from the same weights and see the same batches in the same order.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
DLC = os.path.join(ROOT, ".build", "release", "dlc")
TMP = tempfile.mkdtemp()


def dlc(*args):
    out = subprocess.run([DLC, *map(str, args)], check=True, capture_output=True, text=True)
    return out.stdout


def train(model, data, *args):
    return json.loads(dlc("train", f"{ROOT}/Graphs/{model}.pb", "--data", data, "--json", *args))


def digits():
    """Both libraries train the same network by the same recipe from their own initial weights, five times."""
    import importlib.util
    import torch
    from sklearn.datasets import load_digits
    spec = importlib.util.spec_from_file_location("peer", os.path.join(ROOT, "Tools", "train-digits.py"))
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    d = load_digits()
    images, labels = (d.images / 16).astype(np.float32)[:, None], d.target.astype(np.int32)
    np.savez(f"{TMP}/train.npz", images=images[:1257], labels=labels[:1257])
    np.savez(f"{TMP}/test.npz", images=images[1257:])
    x, y, t = torch.tensor(images[:1257]), torch.tensor(labels[:1257]).long(), torch.tensor(images[1257:])
    for name, make in (("mlp", peer.MLP), ("cnn", peer.CNN)):
        mine, theirs = [], []
        for seed in range(5):
            train(f"digits_{name}", f"{TMP}/train.npz", "--lr", 2e-3, "--batch", 64, "--epochs", 60, "--seed", seed, "-o", f"{TMP}/w.safetensors")
            dlc("run", f"{ROOT}/Graphs/digits_{name}.pb", "--function", "forward", "--inputs", f"{TMP}/test.npz",
                "--params", f"{TMP}/w.safetensors", "--outputs", f"{TMP}/out.npz")
            mine.append((np.load(f"{TMP}/out.npz")["prediction"] == labels[1257:]).mean())
            torch.manual_seed(seed)
            model = make()
            opt = torch.optim.Adam(model.parameters(), lr=2e-3)
            for _ in range(60):
                for batch in torch.randperm(len(x)).split(64):
                    opt.zero_grad()
                    torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                    opt.step()
            with torch.no_grad():
                theirs.append((model(t).argmax(1).numpy() == labels[1257:]).mean())
        show = lambda v: f"{100 * np.median(v):.1f} % ({100 * min(v):.1f} to {100 * max(v):.1f})"
        print(f"| digits, {name}, 60 epochs, 5 seeds | accuracy {show(mine)} | PyTorch {show(theirs)} |", flush=True)


def characters():
    import torch
    from safetensors.torch import save_file
    F = torch.nn.functional
    text = open("/usr/share/common-licenses/GPL-3", encoding="utf-8").read()
    chars = sorted(set(text))
    codes = np.array([chars.index(c) for c in text], np.int32)
    V, T, B, E, H = len(chars), 32, 16, 32, 64
    rows = (len(codes) - 1) // T
    x, y = codes[:rows * T].reshape(rows, T), codes[1:rows * T + 1].reshape(rows, T)
    np.savez(f"{TMP}/chars.npz", x=x, y=y)
    steps, epochs = rows // B, 6

    def uniform(fan, *shape): return (torch.rand(*shape) * 2 - 1) * fan ** -0.5

    def linear(p, n, x): return F.linear(x, p[n + ".w"], p[n + ".b"])

    def recurrent(kind):
        gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
        p = {"emb": torch.randn(V, E) * 0.5, "rnn.0.w_ih": uniform(H, gates * H, E), "rnn.0.w_hh": uniform(H, gates * H, H),
             "rnn.0.b_ih": uniform(H, gates * H), "rnn.0.b_hh": uniform(H, gates * H), "head.w": uniform(H, V, H), "head.b": uniform(H, V)}

        def logits(p, x):
            e = p["emb"][x].transpose(0, 1)
            w = [p["rnn.0." + k] for k in ("w_ih", "w_hh", "b_ih", "b_hh")]
            h = torch.zeros(1, e.shape[1], H)
            if kind == "lstm":
                out = torch.lstm(e, (h, h), w, True, 1, 0.0, False, False, False)[0]
            else:
                out = {"rnn": torch.rnn_tanh, "gru": torch.gru}[kind](e, h, w, True, 1, 0.0, False, False, False)[0]
            return linear(p, "head", out).transpose(0, 1)
        return p, logits

    def gpt():
        p = {"tok": torch.randn(V, E) * 0.1, "pos": torch.randn(T, E) * 0.1, "ln.w": torch.ones(E), "ln.b": torch.zeros(E),
             "head.w": uniform(E, V, E), "head.b": uniform(E, V)}
        for i in range(2):
            for n, o, f in (("qkv", 3 * E, E), ("out", E, E), ("ff1", 4 * E, E), ("ff2", E, 4 * E)):
                p[f"{i}.{n}.w"], p[f"{i}.{n}.b"] = uniform(f, o, f), uniform(f, o)
            for n in ("ln1", "ln2"):
                p[f"{i}.{n}.w"], p[f"{i}.{n}.b"] = torch.ones(E), torch.zeros(E)

        def logits(p, x):
            norm = lambda n, h: F.layer_norm(h, (E,), p[n + ".w"], p[n + ".b"], 1e-5)
            h = p["tok"][x] + p["pos"]
            for i in range(2):
                q = linear(p, f"{i}.qkv", norm(f"{i}.ln1", h)).reshape(len(x), T, 3, 4, E // 4).permute(2, 0, 3, 1, 4)
                a = F.scaled_dot_product_attention(q[0], q[1], q[2], is_causal=True)
                h = h + linear(p, f"{i}.out", a.transpose(1, 2).reshape(len(x), T, E))
                h = h + linear(p, f"{i}.ff2", F.gelu(linear(p, f"{i}.ff1", norm(f"{i}.ln2", h))))
            return linear(p, "head", norm("ln", h))
        return p, logits

    for name, make in (("rnn", lambda: recurrent("rnn")), ("lstm", lambda: recurrent("lstm")), ("gru", lambda: recurrent("gru")), ("gpt", gpt)):
        torch.manual_seed(3)
        p, logits = make()
        save_file(p, f"{TMP}/{name}.safetensors")
        log = f"{TMP}/{name}.jsonl"
        train(f"examples/char_{name}", f"{TMP}/chars.npz", "--optimizer", "adam", "--lr", 3e-3, "--batch", B, "--epochs", epochs,
              "--no-shuffle", "--params", f"{TMP}/{name}.safetensors", "--dim", f"V={V}", "--log", log)
        lines = [json.loads(l) for l in open(log)]
        last = [l["loss"] for l in lines if l["epoch"] == epochs]
        mine = sum(last) / len(last)
        w = {k: v.clone().requires_grad_() for k, v in p.items()}
        opt = torch.optim.Adam(w.values(), lr=3e-3)
        xs, ys = torch.tensor(x).long(), torch.tensor(y).long()
        for epoch in range(epochs):
            total = 0.0
            for s in range(steps):
                part = slice(s * B, (s + 1) * B)
                loss = F.cross_entropy(logits(w, xs[part]).reshape(-1, V), ys[part].reshape(-1))
                opt.zero_grad()
                loss.backward()
                opt.step()
                total += loss.item()
        theirs = total / steps
        print(f"| characters, {name}, {epochs * steps} steps | mean loss of the last epoch {mine:.4f} | PyTorch {theirs:.4f} ({100 * (mine / theirs - 1):+.2f} %) |", flush=True)


def iris():
    import warnings
    from sklearn.datasets import load_iris
    from sklearn.mixture import GaussianMixture
    warnings.simplefilter("ignore")
    x = load_iris().data
    rng = np.random.default_rng(0)
    mu = x[rng.choice(len(x), 3, replace=False)]
    sigma = np.broadcast_to(np.cov(x.T), (3, 4, 4)).copy()
    pi = np.full(3, 1 / 3)
    np.savez(f"{TMP}/iris.npz", x=x, pi=pi, mu=mu, Sigma=sigma)
    n = 50
    dlc("run", f"{ROOT}/Graphs/examples/gmm_float64.pb", "--function", "fit", "--inputs", f"{TMP}/iris.npz", "--dim", f"iterations={n}", "--outputs", f"{TMP}/fit.npz")
    mine = np.load(f"{TMP}/fit.npz")["log_likelihood"][-1]
    m = GaussianMixture(3, reg_covar=0, tol=0, max_iter=n, weights_init=pi, means_init=mu, precisions_init=np.linalg.inv(sigma)).fit(x)
    theirs = m.lower_bound_ * len(x)
    print(f"| iris, Gaussian mixture, {n} iterations | log-likelihood {mine:.6f} | scikit-learn {theirs:.6f} (relative {abs(mine / theirs - 1):.1e}) |")


if __name__ == "__main__":
    for part in sys.argv[1:] or ("digits", "characters", "iris"):
        globals()[part]()
