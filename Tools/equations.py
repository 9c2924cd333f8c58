#!/usr/bin/env python3
"""Writes the fixtures of Tests/Fixtures/equations: inputs, parameters and float64 results of every
saved graph, computed here with PyTorch in double precision and its own autograd.

    python3 -m venv VENV && VENV/bin/pip install "torch==2.13.0+cpu" numpy
    VENV/bin/python Tools/equations.py                  # the arrays
    VENV/bin/python Tools/equations.py SIGNATURES.md    # signatures.json, from the contract's table

Each file holds `i/<input>`, `p/<parameter>`, `o/<output>`; its name is FILE.FUNCTION.CASE.npz.
"""
import json
import math
import os
import re
import sys

import numpy as np
import torch

torch.set_default_dtype(torch.float64)
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Tests", "Fixtures", "equations")
T = torch
I32 = torch.int32
rng = np.random.default_rng(7)


def N(*shape, scale=1.0):
    """Numbers that float32 holds exactly, so that both sides read the same."""
    return T.tensor((rng.standard_normal(shape) * scale).astype(np.float32).astype(np.float64))


def U(*shape, low=0.0, high=1.0):
    return T.tensor(rng.uniform(low, high, shape).astype(np.float32).astype(np.float64))


def ints(high, *shape, low=0):
    return T.tensor(rng.integers(low, high, shape), dtype=I32)


def save(path, function, case, inputs, params, outputs):
    arrays = {}
    for group, values in (("i", inputs), ("p", params), ("o", outputs)):
        for k, v in values.items():
            v = v.detach().numpy() if isinstance(v, T.Tensor) else np.asarray(v)
            if group != "o" and v.dtype == np.float64:
                v = v.astype(np.float32)
            arrays[f"{group}/{k}"] = v
    name = f"{path.replace('/', '.')}.{function}.{case}.npz"
    np.savez(os.path.join(OUT, name), **arrays)


def run(path, function, fn, inputs, params={}, case="plain", gradient=None, read=None):
    """Saves fn's results, and, with `gradient`, its vector-Jacobian product with random cotangents."""
    outputs = fn({**inputs}, {**params})
    save(path, function, case, inputs, params, outputs)
    if not gradient:
        return
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items() if v.dtype.is_floating_point}
    read = params.keys() if read is None else read
    weights = {k: v.clone().requires_grad_() for k, v in params.items()}
    results = fn({**inputs, **leaves}, weights)
    seeds = {f"d_{k}": N(*v.shape) for k, v in results.items() if v.dtype.is_floating_point}
    targets = {**leaves, **{k: weights[k] for k in read}}
    grads = T.autograd.grad([results[k[2:]] for k in seeds], list(targets.values()), list(seeds.values()), allow_unused=True)
    out = {f"d_{k}": T.zeros_like(v) if g is None else g for (k, v), g in zip(targets.items(), grads)}
    save(path, gradient, case, {**inputs, **seeds}, params, out)


F = T.nn.functional
sig = T.sigmoid


def lin(x, w, b=None):
    y = x @ w.transpose(-1, -2)
    return y if b is None else y + b


# ---- A ------------------------------------------------------------------------------------

def hard_sigmoid(x):
    y = 0.2 * x + 0.5
    return T.where(y <= 0, T.zeros_like(x), T.where(y >= 1, T.ones_like(x), y))


def hard_tanh(x): return T.where(x <= -1, -T.ones_like(x), T.where(x >= 1, T.ones_like(x), x))
def right(x, low): return T.where(x >= 0, x, low(T.minimum(x, T.zeros_like(x))))


LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772
ACTIVATIONS = {
    "sigmoid": sig, "tanh": T.tanh, "relu": T.relu,
    "leaky_relu": lambda x: T.where(x >= 0, x, 0.01 * x),
    "elu": lambda x: right(x, T.expm1),
    "selu": lambda x: T.where(x >= 0, LAMBDA * x, LAMBDA * ALPHA * T.expm1(T.minimum(x, T.zeros_like(x)))),
    "gelu": lambda x: 0.5 * x * T.special.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + T.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))),
    "softplus": lambda x: T.logaddexp(x, T.zeros_like(x)),
    "mish": lambda x: x * T.tanh(T.logaddexp(x, T.zeros_like(x))),
    "swish": lambda x: x * sig(x),
    "hard_sigmoid": hard_sigmoid, "hard_tanh": hard_tanh,
    "softsign": lambda x: x / (1 + x.abs()),
    "softmax": lambda x: T.softmax(x, -1),
}


def activations():
    extreme = T.tensor([[-1e4, -100.0, -30.0, -12.5, -5.0, -2.5, -1.0, -1e-3, -1e-20, 0.0],
                        [1e4, 100.0, 30.0, 12.5, 5.0, 2.5, 1.0, 1e-3, 1e-20, 0.0]])
    extreme = T.tensor(extreme.numpy().astype(np.float32).astype(np.float64))
    for name, f in ACTIVATIONS.items():
        path = f"activations/{name}"
        fn = lambda i, p, f=f: {"y": f(i["x"])}
        run(path, "forward", fn, {"x": N(5, 13, scale=3)}, gradient="gradient")
        run(path, "forward", fn, {"x": extreme}, case="extreme", gradient="gradient")
    prelu = lambda i, p: {"y": T.where(i["x"] < 0, p["a"] * i["x"], i["x"])}
    run("activations/prelu", "forward", prelu, {"x": N(5, 13)}, {"a": N(13)}, gradient="gradient")
    run("activations/prelu", "forward", prelu, {"x": extreme}, {"a": N(10)}, "extreme", gradient="gradient")
    maxout = lambda i, p: {"y": (T.einsum("nd,kmd->nkm", i["x"], p["W"]) + p["b"]).max(1).values}
    run("activations/maxout", "forward", maxout, {"x": N(5, 7)}, {"W": N(3, 4, 7), "b": N(3, 4)}, gradient="gradient")


# ---- B ------------------------------------------------------------------------------------

def ln(x, g, b): return F.layer_norm(x, (x.shape[-1],), g, b, 1e-5)


def attend(q, k, v, causal=False):
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        t = s.shape[-1]
        s = s.masked_fill(T.ones(t, t).triu(1).bool(), -math.inf)
    a = T.softmax(s, -1)
    return a @ v, a


def mha(x, p, pre="", causal=False, heads=4):
    n, t, d = x.shape
    split = lambda w: (x @ p[pre + w]).reshape(n, t, heads, d // heads).transpose(1, 2)
    o, _ = attend(split("W_Q"), split("W_K"), split("W_V"), causal)
    return o.transpose(1, 2).reshape(n, t, d) @ p[pre + "W_O"]


def ffn(x, p, pre=""): return lin(T.relu(lin(x, p[pre + "W_1"], p[pre + "b_1"])), p[pre + "W_2"], p[pre + "b_2"])


def ffn_params(f, d, pre=""):
    return {pre + "W_1": N(f, d, scale=.5), pre + "b_1": N(f), pre + "W_2": N(d, f, scale=.5), pre + "b_2": N(d)}


def head_params(d, pre=""): return {pre + "W_" + c: N(d, d, scale=.5) for c in "QKVO"}


def decoder(i, p):
    ids = i["ids"].long()
    x = p["embedding"][ids] + p["position"][:ids.shape[1]]
    for b in ("blocks.0.", "blocks.1."):
        x = x + mha(ln(x, p[b + "gamma_1"], p[b + "beta_1"]), p, b, True)
        x = x + ffn(ln(x, p[b + "gamma_2"], p[b + "beta_2"]), p, b)
    return {"logits": lin(ln(x, p["gamma_f"], p["beta_f"]), p["W_vocab"])}


def architectures():
    A = "architectures/"
    run(A + "fnn", "forward", lambda i, p: {"y_hat": sig(lin(sig(lin(i["x"], p["W1"], p["b1"])), p["W2"], p["b2"]))},
        {"x": N(5, 7)}, {"W1": N(11, 7), "b1": N(11), "W2": N(3, 11), "b2": N(3)}, gradient="gradient")
    run(A + "conv2d", "forward", lambda i, p: {"Y": F.conv2d(i["X"], p["K"])}, {"X": N(2, 3, 9, 7)}, {"K": N(4, 3, 3, 3)}, gradient="gradient")
    run(A + "conv2d", "forward", lambda i, p: {"Y": F.conv2d(i["X"], p["K"])}, {"X": N(3, 2, 6, 8)}, {"K": N(3, 2, 5, 5)}, "wide", gradient="gradient")
    pool = lambda i, p: {"Y": F.max_pool2d(i["X"], 2)}
    run(A + "maxpool2d", "forward", pool, {"X": N(2, 3, 7, 9)}, gradient="gradient")
    run(A + "maxpool2d", "forward", pool, {"X": ints(3, 2, 2, 6, 5).double()}, case="ties", gradient="gradient")

    def cnn(i, p):
        x = F.max_pool2d(T.relu(F.conv2d(i["X"], p["K1"], p["b1"])), 2)
        x = F.max_pool2d(T.relu(F.conv2d(x, p["K2"], p["b2"])), 2)
        return {"logits": lin(x.flatten(1), p["W"], p["b"])}
    run(A + "cnn", "forward", cnn, {"X": N(3, 2, 13, 15)},
        {"K1": N(4, 2, 3, 3, scale=.3), "b1": N(4), "K2": N(5, 4, 3, 3, scale=.3), "b2": N(5), "W": N(6, 5 * 1 * 2, scale=.3), "b": N(6)}, gradient="gradient")

    def rnn(i, p):
        h, out = i["h0"], []
        for x in i["x"]:
            h = T.tanh(lin(h, p["W_h"]) + lin(x, p["W_x"], p["b_h"]))
            out.append(h)
        return {"h": T.stack(out), "y_hat": sig(lin(h, p["W_y"], p["b_y"]))}
    run(A + "rnn", "forward", rnn, {"x": N(6, 3, 4), "h0": N(3, 7)},
        {"W_h": N(7, 7, scale=.5), "W_x": N(7, 4, scale=.5), "b_h": N(7), "W_y": N(2, 7), "b_y": N(2)}, gradient="gradient")

    def gates(names, h, d): return {f"{c}_{n}": N(*s, scale=.5) for n in names for c, s in (("W", (h, d)), ("U", (h, h)), ("b", (h,)))}

    def lstm(i, p):
        h, c, hs, cs = i["h0"], i["c0"], [], []
        for x in i["x"]:
            z = lambda n: lin(x, p["W_" + n]) + lin(h, p["U_" + n], p["b_" + n])
            f, k, o, g = sig(z("f")), sig(z("i")), sig(z("o")), T.tanh(z("c"))
            c = f * c + k * g
            h = o * T.tanh(c)
            hs.append(h), cs.append(c)
        return {"h": T.stack(hs), "c": T.stack(cs)}
    run(A + "lstm", "forward", lstm, {"x": N(6, 3, 4), "h0": N(3, 7), "c0": N(3, 7)}, gates("fioc", 7, 4), gradient="gradient")
    run(A + "lstm", "forward", lstm, {"x": N(1, 2, 3), "h0": N(2, 5), "c0": N(2, 5)}, gates("fioc", 5, 3), "single", gradient="gradient")

    def gru(i, p):
        h, hs = i["h0"], []
        for x in i["x"]:
            z = sig(lin(x, p["W_z"]) + lin(h, p["U_z"], p["b_z"]))
            r = sig(lin(x, p["W_r"]) + lin(h, p["U_r"], p["b_r"]))
            n = T.tanh(lin(x, p["W_h"]) + lin(r * h, p["U_h"], p["b_h"]))
            h = (1 - z) * h + z * n
            hs.append(h)
        return {"h": T.stack(hs)}
    run(A + "gru", "forward", gru, {"x": N(7, 3, 4), "h0": N(3, 6)}, gates("zrh", 6, 4), gradient="gradient")
    run(A + "attention", "forward", lambda i, p: {"O": attend(i["X"] @ p["W_Q"], i["X"] @ p["W_K"], i["X"] @ p["W_V"])[0]},
        {"X": N(2, 7, 6)}, {"W_Q": N(6, 5), "W_K": N(6, 5), "W_V": N(6, 3)}, gradient="gradient")
    run(A + "masked_attention", "forward", lambda i, p: dict(zip("OA", attend(i["Q"], i["K"], i["V"], True))),
        {"Q": N(2, 7, 5), "K": N(2, 7, 5), "V": N(2, 7, 3)}, gradient="gradient")
    run(A + "masked_attention", "forward", lambda i, p: dict(zip("OA", attend(i["Q"], i["K"], i["V"], True))),
        {"Q": N(1, 5, 4, scale=100), "K": N(1, 5, 4, scale=100), "V": N(1, 5, 3)}, case="extreme", gradient="gradient")
    run(A + "multi_head_attention", "forward", lambda i, p: {"Y": mha(i["X"], p)}, {"X": N(2, 5, 12)}, head_params(12), gradient="gradient")
    run(A + "feed_forward", "forward", lambda i, p: {"y": ffn(i["x"], p)}, {"x": N(5, 6)}, ffn_params(9, 6), gradient="gradient")
    norm = lambda i, p: {"y": ln(i["x"], p["gamma"], p["beta"])}
    run(A + "layer_norm", "forward", norm, {"x": N(5, 9)}, {"gamma": N(9), "beta": N(9)}, gradient="gradient")
    run(A + "layer_norm", "forward", norm, {"x": N(3, 6) + 100}, {"gamma": N(6), "beta": N(6)}, "offset")
    run(A + "residual", "forward", lambda i, p: {"y": i["x"] + T.tanh(lin(i["x"], p["W"], p["b"]))}, {"x": N(5, 6)}, {"W": N(6, 6), "b": N(6)}, gradient="gradient")

    def encoder(i, p):
        x = ln(i["x"] + mha(i["x"], p), p["gamma_1"], p["beta_1"])
        return {"out": ln(x + ffn(x, p), p["gamma_2"], p["beta_2"])}
    norms = lambda d, *names: {k: N(d) for n in names for k in (f"gamma{n}", f"beta{n}")}
    run(A + "transformer_encoder", "forward", encoder, {"x": N(2, 5, 12)}, {**head_params(12), **ffn_params(10, 12), **norms(12, "_1", "_2")}, gradient="gradient")
    d, V, P = 8, 9, 12
    p = {"embedding": N(V, d), "position": N(P, d), **norms(d, "_f"), "W_vocab": N(V, d)}
    for b in ("blocks.0.", "blocks.1."):
        p |= {**head_params(d, b), **ffn_params(10, d, b), **{b + k: v for k, v in norms(d, "_1", "_2").items()}}
    ids = ints(V - 2, 2, 6)
    run(A + "transformer_decoder", "forward", decoder, {"ids": ids}, p, gradient="gradient")
    # One step of decoding: the caches of the first tokens, and the next token.
    t = 4
    caches = T.zeros(2, 2, 2, P, d)
    x = p["embedding"][ids.long()] + p["position"][:ids.shape[1]]
    for l, b in enumerate(("blocks.0.", "blocks.1.")):
        y = ln(x, p[b + "gamma_1"], p[b + "beta_1"])
        for c, w in enumerate(("W_K", "W_V")):
            caches[c, l, :, :ids.shape[1]] = y @ p[b + w]
        x = x + mha(y, p, b, True)
        x = x + ffn(ln(x, p[b + "gamma_2"], p[b + "beta_2"]), p, b)
    before, after = caches.clone(), caches.clone()
    before[:, :, :, t:] = 0
    after[:, :, :, t + 1:] = 0
    before = T.tensor(before.numpy().astype(np.float32).astype(np.float64))
    save(A + "transformer_decoder", "decode", "plain", {"token": ids[:, t], "t": T.tensor(t, dtype=I32), "cache_k": before[0], "cache_v": before[1]}, p,
         {"logits": decoder({"ids": ids}, p)["logits"][:, t], "cache_k_next": after[0], "cache_v_next": after[1]})
    run(A + "linear", "forward", lambda i, p: {"z": lin(i["x"], p["W"], p["b"])}, {"x": N(5, 7)}, {"W": N(3, 7), "b": N(3)}, gradient="gradient")

    def bce(i, p):
        q = i["y_hat"].clamp(1e-7, 1 - 1e-7)
        return {"loss": -(i["y"] * q.log() + (1 - i["y"]) * (1 - q).log()).mean()}
    run(A + "bce", "forward", bce, {"y_hat": U(9, low=.05, high=.95), "y": U(9)}, gradient="gradient")
    ce = lambda i, p: {"loss": F.cross_entropy(i["z"], i["labels"].long())}
    run(A + "softmax_cross_entropy", "forward", ce, {"z": N(6, 5), "labels": ints(5, 6)}, gradient="gradient")
    run(A + "softmax_cross_entropy", "forward", ce, {"z": N(6, 5, scale=3000), "labels": ints(5, 6)}, case="extreme", gradient="gradient")


# ---- C ------------------------------------------------------------------------------------

def softplus(x): return T.logaddexp(x, T.zeros_like(x))


def generative():
    G = "generative/"
    n, d, h, q = 5, 7, 6, 3
    pv = {"We": N(h, d), "be": N(h), "Wm": N(q, h), "bm": N(q), "Wv": N(q, h, scale=.3), "bv": N(q), "Wd": N(h, q), "bd": N(h), "Wo": N(d, h), "bo": N(d)}

    def vae(i, p):
        e = T.tanh(lin(i["x"], p["We"], p["be"]))
        mu, lv = lin(e, p["Wm"], p["bm"]), lin(e, p["Wv"], p["bv"])
        z = mu + T.exp(lv / 2) * i["eps"]
        l = lin(T.tanh(lin(z, p["Wd"], p["bd"])), p["Wo"], p["bo"])
        rec = (i["x"] * l - softplus(l)).sum(1).mean()
        kl = 0.5 * (mu ** 2 + lv.exp() - 1 - lv).sum(1).mean()
        return {"elbo": rec - kl, "reconstruction": rec, "kl": kl}
    run(G + "vae", "elbo", vae, {"x": U(n, d), "eps": N(n, q)}, pv, gradient="gradient")
    run(G + "vae", "elbo", vae, {"x": U(n, d), "eps": N(n, q)}, {**pv, "Wo": N(d, h, scale=3000)}, "extreme", gradient="gradient")
    run(G + "vae", "kl", lambda i, p: {"kl": 0.5 * (i["mu"] ** 2 + i["sigma"] ** 2 - 1 - 2 * i["sigma"].log()).sum(1).mean()},
        {"mu": N(n, q), "sigma": U(n, q, low=.2, high=2)}, pv, gradient="kl_gradient", read=[])

    def nets(scale):
        return {"D_W1": N(h, d), "D_b1": N(h), "D_W2": N(1, h, scale=scale), "D_b2": N(1), "G_W1": N(4, q), "G_b1": N(4), "G_W2": N(d, 4), "G_b2": N(d)}
    mlp = lambda x, p, k: lin(T.tanh(lin(x, p[k + "_W1"], p[k + "_b1"])), p[k + "_W2"], p[k + "_b2"])
    dl = lambda i, p: {"loss": softplus(-mlp(i["x"], p, "D")).mean() + softplus(mlp(mlp(i["z"], p, "G"), p, "D")).mean()}
    gl = lambda i, p: {"loss": softplus(-mlp(mlp(i["z"], p, "G"), p, "D")).mean()}
    for case, scale in (("plain", 1.0), ("extreme", 3000.0)):
        p, x, z = nets(scale), N(n, d), N(n, q)
        for name, fn, inputs, prefix in (("discriminator", dl, {"x": x, "z": z}, "D_"), ("generator", gl, {"z": z}, "G_")):
            run(G + "gan", name + "_loss", fn, inputs, p, case)
            w = {k: v.clone().requires_grad_() for k, v in p.items()}
            mine = [k for k in w if k.startswith(prefix)]
            grads = T.autograd.grad(fn(inputs, w)["loss"], [w[k] for k in mine])
            save(G + "gan", name + "_gradient", case, inputs, p, {f"d_{k}": g for k, g in zip(mine, grads)})

    beta = T.linspace(1e-4, 0.02, 1000)
    abar = T.cumprod(1 - beta, 0)
    pd = {"W1": N(h, d), "w_t": N(h), "b1": N(h), "W2": N(d, h), "b2": N(d)}
    at = lambda table, t: table[t.long() - 1][:, None]
    net = lambda x, t, p: lin(T.tanh(lin(x, p["W1"]) + t.double()[:, None] / 1000 * p["w_t"] + p["b1"]), p["W2"], p["b2"])
    t = T.tensor([1, 2, 500, 999, 1000], dtype=I32)
    qs = lambda x, t, e: at(abar, t).sqrt() * x + (1 - at(abar, t)).sqrt() * e
    run(G + "ddpm", "q_step", lambda i, p: {"x_t": (1 - at(beta, i["t"])).sqrt() * i["x_prev"] + at(beta, i["t"]).sqrt() * i["noise"]}, {"x_prev": N(n, d), "t": t, "noise": N(n, d)}, pd)
    run(G + "ddpm", "q_sample", lambda i, p: {"x_t": qs(i["x0"], i["t"], i["eps"])}, {"x0": N(n, d), "t": t, "eps": N(n, d)}, pd)
    run(G + "ddpm", "loss", lambda i, p: {"loss": ((net(qs(i["x0"], i["t"], i["eps"]), i["t"], p) - i["eps"]) ** 2).mean()}, {"x0": N(n, d), "t": t, "eps": N(n, d)}, pd, gradient="gradient")

    def p_step(i, p):
        b, a = at(beta, i["t"]), at(abar, i["t"])
        mean = (i["x_t"] - b / (1 - a).sqrt() * net(i["x_t"], i["t"], p)) / (1 - b).sqrt()
        return {"x_prev": mean + T.where(i["t"][:, None] > 1, b.sqrt(), T.zeros_like(b)) * i["noise"]}
    run(G + "ddpm", "p_step", p_step, {"x_t": N(n, d), "t": t, "noise": N(n, d)}, pd)

    for case, d in (("odd", 5), ("even", 4)):
        lo, hi, p = d // 2, (d + 1) // 2, {}
        for k in range(4):
            a, b = (lo, hi) if k % 2 == 0 else (hi, lo)
            p |= {f"W1_{k}": N(h, a), f"b1_{k}": N(h), f"Ws_{k}": N(b, h, scale=.5), f"bs_{k}": N(b), f"Wt_{k}": N(b, h), f"bt_{k}": N(b)}
        p |= {"lower": N(d, d), "upper": N(d, d), "log_diagonal": N(d, scale=.3)}

        def parts(k, kept, p):
            u = T.tanh(lin(kept, p[f"W1_{k}"], p[f"b1_{k}"]))
            return T.tanh(lin(u, p[f"Ws_{k}"], p[f"bs_{k}"])), lin(u, p[f"Wt_{k}"], p[f"bt_{k}"])

        def matrix(p):
            e = T.eye(p["lower"].shape[0])
            return (e + p["lower"].tril(-1)) @ (T.diag(p["log_diagonal"].exp()) + p["upper"].triu(1))

        def layer(k, x, p, back, lo=lo):
            a, b = x[:, :lo], x[:, lo:]
            kept, ch = (a, b) if k % 2 == 0 else (b, a)
            s, t = parts(k, kept, p)
            ch = (ch - t) * T.exp(-s) if back else ch * T.exp(s) + t
            return T.cat([a, ch] if k % 2 == 0 else [ch, b], 1), s.sum(1)

        def inverse(i, p):
            x, ld = i["x"], 0
            for k in (3, 2):
                x, s = layer(k, x, p, True)
                ld = ld - s
            x = T.linalg.solve(matrix(p), x.T).T
            ld = ld - T.linalg.slogdet(matrix(p))[1]
            for k in (1, 0):
                x, s = layer(k, x, p, True)
                ld = ld - s
            return {"z": x, "log_det": ld}

        def transform(i, p):
            x = layer(1, layer(0, i["z"], p, False)[0], p, False)[0] @ matrix(p).T
            return {"x": layer(3, layer(2, x, p, False)[0], p, False)[0]}

        def log_prob(i, p):
            r = inverse(i, p)
            z = r["z"]
            return {"log_prob": -0.5 * (z ** 2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi) + r["log_det"]}
        run(G + "flow", "inverse", inverse, {"x": N(n, d)}, p, case)
        run(G + "flow", "transform", transform, {"z": N(n, d)}, p, case)
        run(G + "flow", "log_prob", log_prob, {"x": N(n, d)}, p, case, gradient="gradient")
    d = 6
    V, L = 7, 5
    pa = {"embedding": N(V, d), "start": N(d), "position": N(L, d), "W_Q": N(d, d, scale=.5), "W_K": N(d, d, scale=.5), "W_V": N(d, d, scale=.5), "W_out": N(V, d), "b_out": N(V)}

    def ll(i, p):
        tok = i["tokens"].long()
        e = T.cat([p["start"].expand(tok.shape[0], 1, -1), p["embedding"][tok[:, :-1]]], 1) + p["position"]
        y = e + attend(e @ p["W_Q"], e @ p["W_K"], e @ p["W_V"], True)[0]
        lp = T.log_softmax(lin(y, p["W_out"], p["b_out"]), -1)
        return {"ll": lp.gather(2, tok[:, :, None]).sum((1, 2))}
    run(G + "autoregressive", "log_likelihood", ll, {"tokens": ints(V, 4, L)}, pa, gradient="gradient")

    pe = {"W1": N(h, d), "b1": N(h), "w2": N(h)}
    energy = lambda x, p: 0.5 * (x ** 2).sum(1) + T.tanh(lin(x, p["W1"], p["b1"])) @ p["w2"]
    run(G + "ebm", "energy", lambda i, p: {"E": energy(i["x"], p)}, {"x": N(n, d)}, pe, gradient="gradient")
    w = {k: v.clone().requires_grad_() for k, v in pe.items()}
    a, b = N(n, d), N(n, d)
    grads = T.autograd.grad(energy(a, w).mean() - energy(b, w).mean(), list(w.values()))
    save(G + "ebm", "loss_gradient", "plain", {"x_data": a, "x_model": b}, pe, {f"d_{k}": g for k, g in zip(w, grads)})
    x = N(n, d).requires_grad_()
    slope, = T.autograd.grad(energy(x, pe).sum(), x)
    noise, step = N(n, d), T.tensor(float(np.float32(0.05)))
    save(G + "ebm", "langevin_step", "plain", {"x": x, "noise": noise, "step": step}, pe, {"x_next": x - step / 2 * slope + step.sqrt() * noise})

    d, k = 6, 5
    pr = {"W": N(d, k), "b": N(d), "c": N(k)}
    free = lambda v, p: -v @ p["b"] - softplus(v @ p["W"] + p["c"]).sum(1)
    run(G + "rbm", "energy", lambda i, p: {"E": -((i["v"] @ p["W"]) * i["h"]).sum(1) - i["v"] @ p["b"] - i["h"] @ p["c"]}, {"v": ints(2, n, d).double(), "h": ints(2, n, k).double()}, pr)
    run(G + "rbm", "free_energy", lambda i, p: {"F": free(i["v"], p)}, {"v": ints(2, n, d).double()}, pr, gradient="gradient")

    def cd1(i, p):
        v = i["v"]
        ph = sig(v @ p["W"] + p["c"])
        v1 = (i["u_v"] < sig((i["u_h"] < ph).double() @ p["W"].T + p["b"])).double()
        p1 = sig(v1 @ p["W"] + p["c"])
        return {"d_W": (v.T @ ph - v1.T @ p1) / len(v), "d_b": (v - v1).mean(0), "d_c": (ph - p1).mean(0)}
    run(G + "rbm", "cd1", cd1, {"v": ints(2, n, d).double(), "u_h": U(n, k), "u_v": U(n, d)}, pr)
    for case, d, k in (("plain", 6, 5), ("large", 12, 4)):
        pr = {"W": N(d, k), "b": N(d), "c": N(k)}
        states = T.tensor([[(s >> j) & 1 for j in range(d)] for s in range(2 ** d)]).double()
        save(G + "rbm", "log_partition", case, {}, pr, {"log_z": T.logsumexp(-free(states, pr), 0)})

    d = 4
    ps = {"W1": N(h, d), "b1": N(h), "W2": N(h, h), "b2": N(h), "W3": N(d, h), "b3": N(d)}
    score = lambda x, s, p: lin(T.tanh(lin(T.tanh(lin(x, p["W1"], p["b1"])), p["W2"], p["b2"])), p["W3"], p["b3"]) / s[:, None]

    def dsm(i, p):
        s = i["sigma"]
        off = score(i["x"] + s[:, None] * i["noise"], s, p) + i["noise"] / s[:, None]
        return {"loss": (s ** 2 * (off ** 2).sum(1)).mean()}
    run(G + "score", "dsm_loss", dsm, {"x": N(n, d), "noise": N(n, d), "sigma": U(n, low=.1, high=2)}, ps, gradient="gradient")
    step = T.tensor(float(np.float32(0.02)))
    run(G + "score", "langevin_step", lambda i, p: {"x_next": i["x"] + i["step"] / 2 * score(i["x"], i["sigma"], p) + i["step"].sqrt() * i["noise"]},
        {"x": N(n, d), "noise": N(n, d), "step": step, "sigma": U(n, low=.1, high=2)}, ps)

    n, d, k = 40, 3, 4
    m = N(k, d, d)
    sigma = T.tensor((m @ m.transpose(1, 2) + 0.5 * T.eye(d)).numpy().astype(np.float32).astype(np.float64))
    w = U(k, low=.2, high=1)
    start = {"pi": T.tensor((w / w.sum()).numpy().astype(np.float32).astype(np.float64)), "mu": N(k, d), "Sigma": sigma}

    def joint(i):
        s = 0.5 * (i["Sigma"] + i["Sigma"].transpose(1, 2))
        off = i["x"][:, None] - i["mu"]
        inv = T.linalg.inv(s)
        return i["pi"].log() - 0.5 * (T.einsum("nkd,kde,nke->nk", off, inv, off) + d * math.log(2 * math.pi) + T.linalg.slogdet(s)[1])

    def m_step(x, g):
        c = g.sum(0)
        mu = g.T @ x / c[:, None]
        off = x[:, None] - mu
        return {"pi": c / len(x), "mu": mu, "Sigma": T.einsum("nk,nkd,nke->kde", g, off, off) / c[:, None, None]}

    def fit(i, p):
        state, history = {key: i[key] for key in ("pi", "mu", "Sigma")}, []
        for _ in range(6):
            s = joint({**state, "x": i["x"]})
            history.append(T.logsumexp(s, 1).sum())
            state = m_step(i["x"], T.softmax(s, 1))
        return {**state, "log_likelihood": T.stack(history)}
    x = T.cat([N(20, d) + 2, N(20, d) * 0.7 - 1])
    x = T.tensor(x.numpy().astype(np.float32).astype(np.float64))
    run(G + "gmm", "log_prob", lambda i, p: {"log_prob": T.logsumexp(joint(i), 1)}, {"x": x, **start}, gradient="gradient")
    run(G + "gmm", "e_step", lambda i, p: {"gamma": T.softmax(joint(i), 1)}, {"x": x, **start})
    run(G + "gmm", "m_step", lambda i, p: m_step(i["x"], i["gamma"]), {"x": x, "gamma": T.softmax(N(n, k), 1)})
    run(G + "gmm", "fit", fit, {"x": x, **start}, case="iterations=6")

    n, V = 40, 9

    def token(probs, u): return T.minimum((T.cumsum(probs, 1) <= u[:, None]).sum(1), T.tensor(V - 1)).to(I32)
    logits, temp = N(n, V, scale=2), T.tensor(float(np.float32(0.7)))
    base = {"logits": logits, "u": U(n), "temperature": temp}
    run(G + "sampler", "next_token", lambda i, p: {"token": token(T.softmax(i["logits"] / temp, 1), i["u"])}, base)

    def limited(i, keep_of):
        s = i["logits"] / i["temperature"]
        order = T.sort(s, dim=1, descending=True, stable=True).indices
        keep = T.zeros_like(s, dtype=T.bool).scatter(1, order, keep_of(T.softmax(s, 1).gather(1, order)))
        return {"token": token(T.softmax(s.masked_fill(~keep, -math.inf), 1), i["u"])}
    run(G + "sampler", "top_k", lambda i, p: limited(i, lambda q: T.arange(V).expand(n, V) < i["k"]), {**base, "k": T.tensor(3, dtype=I32)})
    run(G + "sampler", "top_p", lambda i, p: limited(i, lambda q: T.cumsum(q, 1) - q < i["p"]), {**base, "p": T.tensor(float(np.float32(0.8)))})


# ---- layers of the builder library --------------------------------------------------------

def layers():
    L = "layers/"
    x4, x3, x5 = N(2, 6, 7, 8), N(3, 5, 6), N(2, 3, 5, 4, 6)
    run(L + "group_norm", "forward", lambda i, p: {"y": F.group_norm(i["x"], 3, p["w"], p["b"], 1e-5)}, {"x": x4}, {"w": N(6), "b": N(6)}, gradient="gradient")
    run(L + "batch_norm", "forward", lambda i, p: {"y": F.batch_norm(i["x"], None, None, p["w"], p["b"], True, 0.1, 1e-5)}, {"x": x4}, {"w": N(6), "b": N(6)}, gradient="gradient")
    run(L + "rms_norm", "forward", lambda i, p: {"y": F.rms_norm(i["x"], (6,), p["w"], 1e-5)}, {"x": x3}, {"w": N(6)}, gradient="gradient")
    run(L + "average_pool", "forward", lambda i, p: {"y": F.avg_pool2d(i["x"], 3, 2, 1, count_include_pad=False)}, {"x": x4}, gradient="gradient")
    run(L + "max_pool", "forward", lambda i, p: {"y": F.max_pool2d(i["x"], 3, 2, 1)}, {"x": x4}, gradient="gradient")
    run(L + "upsample", "forward", lambda i, p: {"y": F.interpolate(i["x"], scale_factor=2, mode="nearest")}, {"x": x4}, gradient="gradient")
    run(L + "convolution1", "forward", lambda i, p: {"y": F.conv1d(i["x"], p["w"], p["b"], 2, 1)}, {"x": N(3, 4, 11)}, {"w": N(5, 4, 3), "b": N(5)}, gradient="gradient")
    run(L + "convolution2", "forward", lambda i, p: {"y": F.conv2d(i["x"], p["w"], p["b"], 2, 1)}, {"x": N(3, 4, 11, 9)}, {"w": N(5, 4, 3, 3), "b": N(5)}, gradient="gradient")
    run(L + "convolution3", "forward", lambda i, p: {"y": F.conv3d(i["x"], p["w"], p["b"], 1, 1)}, {"x": x5}, {"w": N(4, 3, 3, 3, 3), "b": N(4)}, gradient="gradient")
    run(L + "depthwise", "forward", lambda i, p: {"y": F.conv2d(i["x"], p["w"], p["b"], 1, 1, 1, 6)}, {"x": x4}, {"w": N(6, 1, 3, 3), "b": N(6)}, gradient="gradient")
    run(L + "transposed", "forward", lambda i, p: {"y": F.conv_transpose2d(i["x"], p["w"], p["b"], 2, 1)}, {"x": x4}, {"w": N(6, 4, 3, 3), "b": N(4)}, gradient="gradient")
    for kind, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        p = {f"r.{l}.{k}": N(*s, scale=.4) for l, d in ((0, 4), (1, 5)) for k, s in (("w_ih", (gates * 5, d)), ("w_hh", (gates * 5, 5)), ("b_ih", (gates * 5,)), ("b_hh", (gates * 5,)))}

        def recurrent(i, p, kind=kind):
            h = T.zeros(2, i["x"].shape[1], 5)
            w = list(p.values())
            if kind == "lstm":
                return {"y": T.lstm(i["x"], (h, h), w, True, 2, 0.0, False, False, False)[0]}
            return {"y": {"rnn": T.rnn_tanh, "gru": T.gru}[kind](i["x"], h, w, True, 2, 0.0, False, False, False)[0]}
        run(L + kind, "forward", recurrent, {"x": N(6, 3, 4)}, p, gradient="gradient")

    def block(i, p):
        norm = lambda n, h: F.layer_norm(h, (8,), p[n + ".w"], p[n + ".b"], 1e-5)
        x, t = i["x"], i["x"].shape[1]
        q = lin(norm("b.ln1", x), p["b.qkv.w"], p["b.qkv.b"]).reshape(len(x), t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        a = attend(q[0], q[1], q[2], True)[0]
        x = x + lin(a.transpose(1, 2).reshape(len(x), t, 8), p["b.out.w"], p["b.out.b"])
        return {"y": x + lin(F.gelu(lin(norm("b.ln2", x), p["b.ff1.w"], p["b.ff1.b"])), p["b.ff2.w"], p["b.ff2.b"])}
    p = {}
    for n, o, f in (("qkv", 24, 8), ("out", 8, 8), ("ff1", 32, 8), ("ff2", 8, 32)):
        p[f"b.{n}.w"], p[f"b.{n}.b"] = N(o, f, scale=.4), N(o)
    for n in ("ln1", "ln2"):
        p[f"b.{n}.w"], p[f"b.{n}.b"] = N(8), N(8)
    run(L + "transformer_block", "forward", block, {"x": N(2, 5, 8)}, p, gradient="gradient")


# ---- D ------------------------------------------------------------------------------------

def optimizers():
    D, n, lr = "optimizers/", 17, T.tensor(float(np.float32(0.05)))
    theta, g = N(n), N(n)

    def step(name, rule, states={}, t=None, case="plain", theta=theta, g=g):
        inputs = {"theta": theta, "g": g, **states, "lr": lr}
        if t is not None:
            inputs["t"] = T.tensor(t, dtype=I32)
        out = rule({**inputs, "t": t})
        save(D + name, "step", case, inputs, {}, {k + "_next": v for k, v in out.items()})
    plain = lambda i: {"theta": i["theta"] - lr * i["g"]}
    step("gd", plain), step("sgd", plain)

    def momentum(i):
        v = 0.9 * i["v"] + 0.1 * i["g"]
        return {"theta": i["theta"] - lr * v, "v": v}

    def nag(i):
        v = 0.9 * i["v"] + i["g"]
        return {"theta": i["theta"] - lr * v, "v": v}
    v = N(n)
    step("momentum", momentum, {"v": v}), step("nag", nag, {"v": v})
    save(D + "nag", "lookahead", "plain", {"theta": theta, "v": v, "lr": lr}, {}, {"theta_probe": theta - lr * 0.9 * v})

    def adagrad(i):
        G = i["G"] + i["g"] ** 2
        return {"theta": i["theta"] - lr * i["g"] / (G + 1e-8).sqrt(), "G": G}

    def rmsprop(i):
        s = 0.9 * i["s"] + 0.1 * i["g"] ** 2
        return {"theta": i["theta"] - lr * i["g"] / (s + 1e-8).sqrt(), "s": s}
    for case, old in (("plain", U(n)), ("zero", T.zeros(n))):
        step("adagrad", adagrad, {"G": old}, case=case), step("rmsprop", rmsprop, {"s": old}, case=case)

    def moments(i): return 0.9 * i["m"] + 0.1 * i["g"], 0.999 * i["v"] + 0.001 * i["g"] ** 2

    def adam(i, decay=0.0):
        m, v = moments(i)
        mh, vh = m / (1 - 0.9 ** i["t"]), v / (1 - 0.999 ** i["t"])
        return {"theta": i["theta"] - lr * mh / (vh.sqrt() + 1e-8) - lr * decay * i["theta"], "m": m, "v": v}

    def nadam(i):
        m, v = moments(i)
        c = 1 - 0.9 ** i["t"]
        return {"theta": i["theta"] - lr * (0.9 * m / c + 0.1 * i["g"] / c) / ((v / (1 - 0.999 ** i["t"])).sqrt() + 1e-8), "m": m, "v": v}

    def amsgrad(i):
        m, v = moments(i)
        most = T.maximum(i["v_max"], v)
        return {"theta": i["theta"] - lr * m / (most.sqrt() + 1e-8), "m": m, "v": v, "v_max": most}

    def lamb(i):
        m, v = moments(i)
        u = m / (v.sqrt() + 1e-8)
        a, b = i["theta"].norm(), u.norm()
        return {"theta": i["theta"] - lr * (a / b if a > 0 and b > 0 else 1) * u, "m": m, "v": v}
    for case, t, s in (("plain", 7, {"m": N(n), "v": U(n)}), ("first", 1, {"m": T.zeros(n), "v": T.zeros(n)}), ("late", 100000, {"m": N(n), "v": U(n)})):
        step("adam", adam, s, t, case), step("adamw", lambda i: adam(i, 0.01), s, t, case), step("nadam", nadam, s, t, case)
        step("amsgrad", amsgrad, {**s, "v_max": U(n)}, case=case), step("lamb", lamb, s, case=case)
    step("lamb", lamb, {"m": N(n), "v": U(n)}, case="still", theta=T.zeros(n))

    def adadelta(i):
        s = 0.95 * i["s"] + 0.05 * i["g"] ** 2
        dx = -(i["u"] + 1e-6).sqrt() / (s + 1e-6).sqrt() * i["g"]
        return {"theta": i["theta"] + lr * dx, "s": s, "u": 0.95 * i["u"] + 0.05 * dx ** 2}
    step("adadelta", adadelta, {"s": U(n), "u": U(n)}), step("adadelta", adadelta, {"s": T.zeros(n), "u": T.zeros(n)}, case="zero")

    def lion(i):
        m = 0.9 * i["m"] + 0.1 * i["g"]
        return {"theta": i["theta"] - lr * T.sign(m), "m": m}
    half = g.clone()
    half[::3] = 0
    old = N(n)
    old[::3] = 0
    step("lion", lion, {"m": N(n)}), step("lion", lion, {"m": old}, case="zero", g=half)

    def adafactor(i):
        s = i["g"] ** 2 + 1e-30
        r, c = 0.999 * i["r"] + 0.001 * s.mean(1), 0.999 * i["c"] + 0.001 * s.mean(0)
        v = r[:, None] * c[None] / r.mean()
        return {"theta": i["theta"] - lr * i["g"] / (v.sqrt() + 1e-8), "r": r, "c": c}
    step("adafactor", adafactor, {"r": U(6), "c": U(4)}, theta=N(6, 4), g=N(6, 4))
    step("adafactor", adafactor, {"r": T.zeros(5), "c": T.zeros(3)}, case="zero", theta=N(5, 3), g=N(5, 3))

    def lookahead(i):
        fast, slow = i["theta"] - lr * i["g"], i["slow"]
        if i["t"] % 5:
            return {"theta": fast, "slow": slow}
        slow = slow + (fast - slow) / 2
        return {"theta": slow, "slow": slow}
    for case, t in (("plain", 4), ("turn", 10)):
        step("lookahead", lookahead, {"slow": N(n)}, t, case)


def signatures(page):
    """The table of signatures as JSON: file, function, inputs, outputs, parameters."""
    rows, current = [], None
    for line in open(page):
        cells = [c.strip() for c in line.split(" | ")]
        if len(cells) < 4 or "`" not in cells[2]:
            continue
        current = cells[1] or current
        call = cells[2].strip("`| ").replace("\\|", "|")
        bold = re.search(r"\*\*(.*?)\*\*", cells[3])
        if bold and cells[1]:
            parameters = bold.group(1).split(" ")
        elif cells[1]:
            parameters = []
        name, rest = call.split("(", 1)
        inputs, outputs = rest.split(") -> ")
        split = lambda text: [t for t in re.split(r",\s*(?![^\[]*\])", text) if t]
        rows.append({"file": current, "function": name, "inputs": split(inputs), "outputs": split(outputs), "parameters": parameters})
    with open(os.path.join(OUT, "..", "signatures.json"), "w") as f:
        json.dump(rows, f, indent=0)
    print(len(rows), "signatures")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        signatures(sys.argv[1])
        sys.exit()
    os.makedirs(OUT, exist_ok=True)
    for old in os.listdir(OUT):
        os.remove(os.path.join(OUT, old))
    for part in (activations, architectures, generative, optimizers, layers):
        part()
    print(len(os.listdir(OUT)), "files in", os.path.normpath(OUT))
